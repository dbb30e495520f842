// Where labels go: beside what they belong to, and over nothing that must be seen.

const ACROSS = 20; // px between the places that are tried
const DOWN = 12;
const FAR = 420; // px across
const HIGH = 620;
const BELOW = 120;

/** Steps from the best place, which is right above, to the worst one. */
const STEPS = [];
for (let dy = BELOW; dy >= -HIGH; dy -= DOWN) {
  for (let dx = -FAR; dx <= FAR; dx += ACROSS) STEPS.push([dx, dy]);
}
const cost = ([dx, dy]) => Math.abs(dx) * 0.9 + Math.abs(dy) + (dy > 0 ? 60 : 0);
STEPS.sort((a, b) => cost(a) - cost(b));

/** The box of that size that is nearest to a place above (x, y), lies within `room`, at most `far`
 * away, and covers none of the boxes that are taken. Null if there is none. */
export function placeFor([wide, high], [x, y], room, taken, far = Infinity) {
  for (const step of STEPS) {
    if (cost(step) > far) return null;
    const left = x - wide / 2 + step[0];
    const top = y - high + step[1];
    const box = { left, top, right: left + wide, bottom: top + high };
    if (isFree(box, room, taken)) return box;
  }
  return null;
}

/** True if the box lies within `room` and covers none of the others. */
export function isFree(box, room, taken) {
  const inside =
    box.left >= room.left && box.right <= room.right && box.top >= room.top && box.bottom <= room.bottom;
  return inside && !taken.some((each) => overlap(each, box));
}

export function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
