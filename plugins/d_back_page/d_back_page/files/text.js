// Texts of strangers: cut by what people see as one letter, never by what a computer does.

const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const LONGEST_LETTER = 8; // code units; more is a pile of marks

/** At most `most` letters of a text, and an ellipsis where that is not all of it. */
export function cut(text, most) {
  const kept = split(text, most + 1);
  return kept.length > most ? `${kept.slice(0, most).join("").trimEnd()}…` : kept.join("");
}

/** The first letters of a text, each without its excess of marks. */
export function split(text, most) {
  const kept = [];
  // Bounded before it is segmented: a text may be megabytes of one letter's marks.
  for (const { segment } of letters.segment(text.slice(0, most * 64))) {
    if (kept.length === most) break;
    kept.push(segment.length > LONGEST_LETTER + 20 ? segment.slice(0, LONGEST_LETTER) : segment);
  }
  return kept;
}

/** What a search looks in, and a list is sorted by. */
export function folded(text) {
  return text.normalize("NFKC").toLowerCase();
}

/** "4 s", "3 min", "2 h", "5 d" */
export function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** An element with attributes and children; texts stay texts. */
export function made(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Text of a user: it may turn its own direction, not that of the text around it. */
export function foreign(text, most) {
  return made("bdi", {}, cut(text, most));
}
