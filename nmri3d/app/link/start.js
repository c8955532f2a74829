// Runs before trame's client and tells it, in the address that it reads, where its WebSocket is. Without this it first
// looks for a launcher and logs an error. The client makes that address lower case, so a path with capital letters (of a
// proxy in front) is left for it to find by itself.
(() => {
  const here = new URL(window.location.href);
  if (here.pathname !== here.pathname.toLowerCase()) return;
  const scheme = here.protocol === "https:" ? "wss:" : "ws:";
  here.searchParams.set("sessionURL", `${scheme}//${here.host}${here.pathname}ws`);
  window.history.replaceState({}, document.title, here);
})();
