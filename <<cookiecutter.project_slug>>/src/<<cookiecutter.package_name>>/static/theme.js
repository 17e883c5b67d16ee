// Light, dark or as the system says. Loaded before the body, so that a page never flashes.
const themes = ["system", "light", "dark"];

function stored() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // storage is blocked: the choice lasts for this page
  }
}

function show(theme) {
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
}

let theme = themes.includes(stored()) ? stored() : "system";
show(theme);

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const label = () => (button.textContent = `Theme: ${theme}`);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    show(theme);
    label();
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // as above
    }
  });
  label();
  button.hidden = false;
});
