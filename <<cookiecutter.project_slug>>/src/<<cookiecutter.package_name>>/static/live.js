// A WebSocket that comes back: connect(url, {message, state}) returns a function that ends it.
const PROTOCOL = "live.v1";
const PING = 25_000; // milliseconds of silence after which the server is asked whether it is there
const ANSWER = 10_000; // and in which it has to answer
const FIRST = 1_000; // wait before the second attempt; doubled for each further one
const LONGEST = 30_000;
const REFUSED = 1008; // what this client says, or who it is, is not accepted: do not insist

export function connect(url, { message, state }) {
  let socket, timer;
  let delay = FIRST;
  let wanted = true;

  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      socket.send('{"type":"ping"}');
      timer = setTimeout(lost, ANSWER);
    }, PING);
  };

  const lost = ({ code } = {}) => {
    clearTimeout(timer);
    socket.onclose = socket.onmessage = null;
    socket.close();
    if (!wanted || code === REFUSED) {
      state("Ended");
      return;
    }
    state("Offline, trying again");
    timer = setTimeout(open, delay * (0.5 + Math.random() / 2)); // not all clients at once
    delay = Math.min(2 * delay, LONGEST);
  };

  const open = () => {
    socket = new WebSocket(url, PROTOCOL);
    socket.onopen = () => {
      state("Live");
      listen();
    };
    socket.onmessage = ({ data }) => {
      delay = FIRST; // not before: a server may accept, and end at once
      listen();
      const received = JSON.parse(data);
      if (received.type !== "pong") {
        message(received);
      }
    };
    socket.onclose = lost;
  };

  state("Connecting");
  open();
  return () => {
    wanted = false;
    lost();
  };
}

// Every page shows announcements, and hands on all else that is meant for everybody.
const place = document.getElementById("live");
let connected = false;
connect(place.dataset.url, {
  message: (received) => {
    if (received.type === "announcement") {
      document.getElementById("announcement").textContent = received.text;
    }
    document.dispatchEvent(new CustomEvent(`live:${received.type}`, { detail: received }));
  },
  state: (now) => {
    place.textContent = now;
    if (now === "Live") {
      if (connected) {
        document.dispatchEvent(new Event("live:again")); // something may have been missed
      }
      connected = true;
    }
  },
});
