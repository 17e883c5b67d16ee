// Shows how far the upload is. Without this script the form works by itself.
const form = document.getElementById("upload");
const bar = form.querySelector("progress");
const percent = form.querySelector("[aria-hidden]"); // which the bar says to screen readers
const alert = form.querySelector("[role=alert]");
const button = form.querySelector("button");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const request = new XMLHttpRequest(); // fetch() tells nothing of what was sent
  const failed = (sentence) => {
    alert.textContent = sentence;
    percent.textContent = "";
    bar.hidden = true;
    button.disabled = false;
  };
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.value = (100 * loaded) / total;
    percent.textContent = `${Math.floor(bar.value)} %`;
  });
  request.addEventListener("load", () => {
    if (request.status === 201) {
      location.assign(form.action);
    } else {
      const problem = request.response ?? {};
      failed(problem.detail ?? problem.title ?? "It was not taken.");
    }
  });
  request.addEventListener("error", () => failed("The connection was lost. Is it in the list?"));
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  alert.textContent = "";
  bar.value = 0;
  bar.hidden = false;
  button.disabled = true;
  request.send(new FormData(form));
});
