// What htmx leaves to a page: rest while nobody looks, say when the server is away, keep a log's end in sight.
"use strict";

(() => {
  const live = () => document.getElementById("live");
  const offline = document.getElementById("offline");

  // Nobody sees a hidden tab; look again at once when it is shown.
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && live().hasAttribute("hx-get")) htmx.trigger(live(), "look");
  });

  // The session ended: the server sends whoever reloads to the login page.
  document.addEventListener("htmx:after:request", (event) => {
    const status = event.detail.ctx?.response?.raw?.status;
    if (status === 401) location.reload();
    offline.hidden = status < 500;
  });
  document.addEventListener("htmx:error", () => { offline.hidden = false; });

  // A log that was scrolled to its end stays there; one that somebody reads stays where it is.
  const isAtEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  let following = true;
  const follow = () => {
    const log = document.querySelector("[data-follow]");
    if (log && following) log.scrollTop = log.scrollHeight;
  };
  document.addEventListener("htmx:before:swap", () => {
    const log = document.querySelector("[data-follow]");
    following = !log || isAtEnd(log);
  });
  document.addEventListener("htmx:after:swap", follow);
  follow();
})();
