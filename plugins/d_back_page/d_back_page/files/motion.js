// If things may move, and when the next frame is drawn.

const KEY = "d-back motion";
const reduced = matchMedia("(prefers-reduced-motion: reduce)");
const button = document.querySelector("#motion");

/** What the person has chosen on this page wins over what the system says. */
function isStill() {
  const chosen = localStorage.getItem(KEY);
  return chosen === null ? reduced.matches : chosen === "off";
}

function show() {
  document.body.classList.toggle("still", isStill());
  button.setAttribute("aria-pressed", String(!isStill()));
}

button.addEventListener("click", () => {
  localStorage.setItem(KEY, isStill() ? "on" : "off");
  show();
});
reduced.addEventListener("change", show);
show();

export const mayMove = () => !document.body.classList.contains("still") && !document.hidden;

/** Calls `draw(now)` once with the next frame, however often it is asked to; `draw` returns
 * whether there is more to come. */
export function frames(draw) {
  let due = false;
  const turn = (now) => {
    due = false;
    if (draw(now)) ask();
  };
  const ask = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(turn);
  };
  return ask;
}
