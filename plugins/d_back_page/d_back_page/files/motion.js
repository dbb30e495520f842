// Whether things may move, and when the next frame is drawn.

const still = matchMedia("(prefers-reduced-motion: reduce)");

export const mayMove = () => !still.matches && !document.hidden;

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
