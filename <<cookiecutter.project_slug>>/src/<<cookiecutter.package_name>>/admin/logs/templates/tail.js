// Shows the log of all workers as it is written.
import { connect } from "{{ static('live.js') }}";

const form = document.getElementById("filter");
const records = document.getElementById("records");
const state = document.getElementById("state");
const MOST = 500; // rows that are kept
const DETAILS = new Set(["timestamp", "level", "event"]);
let stop = () => {};

function row(...texts) {
  const line = document.createElement("tr");
  for (const text of texts) {
    line.insertCell().textContent = text;
  }
  records.prepend(line);
}

function show({ worker, dropped, records: fresh }) {
  if (dropped) {
    row("", worker, "", `${dropped} records were too many to be sent`);
  }
  for (const record of fresh) {
    const details = Object.entries(record).filter(([key]) => !DETAILS.has(key));
    const text = details.map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
    row(record.timestamp.slice(11, 23), worker, record.level, [record.event, ...text].join(" "));
  }
  while (records.rows.length > MOST) {
    records.lastElementChild.remove();
  }
}

function begin() {
  stop();
  records.replaceChildren();
  const query = new URLSearchParams(new FormData(form));
  stop = connect(`${form.dataset.url}?${query}`, {
    message: show,
    state: (now) => (state.textContent = now),
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  begin();
});
form.elements.level.addEventListener("change", begin);
begin();
for (const time of document.querySelectorAll("time[data-seconds]")) {
  time.textContent = new Date(1000 * time.dataset.seconds).toLocaleTimeString();
}
