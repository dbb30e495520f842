import type { World } from "./d-back-client.js";

/**
 * `<d-back-community>`: shows who is in a community. Importing this module defines it.
 *
 * Attributes:
 * - `src`: the gateway; missing: the one that this file comes from
 * - `server`: the public id; missing: the default server
 * - `size`: `column` (the default), `card` or `badge`
 * - `theme`: `light` or `dark`; missing: as the system says
 * - `chat`: show what is written
 * - `avatars`: show the members' pictures, if the gateway passes them on
 * - `join`: the address of the Join link
 * - `max`: how many members of each status are listed; missing: 100
 * - `lang`: `en` or `de`; missing: as the page says, or else the browser
 *
 * Custom properties: `--d-back-accent`, `--d-back-accent-ink`, `--d-back-font`, `--d-back-radius`,
 * `--d-back-height` (the most that it grows to; 480px).
 * Parts: `root`, `join`.
 */
export class CommunityElement extends HTMLElement {
  /** The client of the present connection, or null. */
  get world(): World | null;
}

declare global {
  interface HTMLElementTagNameMap {
    "d-back-community": CommunityElement;
  }
}
