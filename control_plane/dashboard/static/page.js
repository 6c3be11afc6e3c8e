// What htmx does not do: say whether the page is live, and how old it is when it is not.
"use strict";
(function () {
  const state = document.getElementById("link-state");
  let since = null;

  function tell(text, kind) {
    if (!state || state.textContent === text) return;
    state.textContent = text;
    state.className = "link-state " + kind;
  }

  function age() {
    if (since === null) return;
    const seconds = Math.round((Date.now() - since) / 1000);
    if (seconds >= 5) tell("not live for " + (seconds < 90 ? seconds + " s" : Math.round(seconds / 60) + " min"), "off");
  }

  document.body.addEventListener("htmx:sseOpen", function () { since = null; tell("live", "on"); });
  document.body.addEventListener("htmx:sseError", function () { since = since || Date.now(); });
  // What cannot be read anew stays as it is; the status says how long that has been so.
  document.body.addEventListener("htmx:sendError", function () { since = since || Date.now(); });
  // A refusal is shown where the answer would be, and not swallowed.
  document.body.addEventListener("htmx:beforeSwap", function (event) {
    const isPart = event.detail.target && event.detail.target.id !== "live";
    if (isPart && event.detail.xhr.status >= 400) { event.detail.shouldSwap = true; event.detail.isError = false; }
  });
  setInterval(age, 1000);
})();
