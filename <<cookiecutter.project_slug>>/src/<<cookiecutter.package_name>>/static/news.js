// Pages of the news show what has changed meanwhile: they fetch themselves again.
const SPREAD = 1_000; // milliseconds over which the open pages do so, not all at once

let timer;

async function refresh() {
  timer = undefined;
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (response.status === 404) {
    for (const place of document.querySelectorAll("[data-gone]")) {
      place.role = "status";
      place.textContent = place.dataset.gone;
    }
  }
  if (!response.ok) {
    return; // what is shown was right a moment ago
  }
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  document.title = fresh.title;
  for (const place of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(place.id);
    if (now && !now.isEqualNode(place)) {
      place.replaceChildren(...now.childNodes); // the element stays: who listens to it hears the news
    }
  }
}

function soon() {
  timer ??= setTimeout(refresh, SPREAD * Math.random());
}

document.addEventListener("live:again", soon);
document.addEventListener("live:news", ({ detail }) => {
  if (detail.was === location.pathname && detail.url !== detail.was) {
    location.replace(detail.url);
  } else {
    soon();
  }
});
