// Pictures of members: only those from this gateway, and from hosts that the operator has named. The
// policy of the page allows no others.

import { made } from "./text.js";

const named = document.querySelector("meta[name=d-back-avatars]").content;
const hosts = named.split(" ").filter(Boolean).map((each) => new URL(each));

/** An image of that size for a member, or null. */
export function avatarOf({ extra }, size) {
  const src = extra.avatar;
  if (!hosts.length || !src || !URL.canParse(src, location.href)) return null;
  const address = new URL(src, location.href);
  if (address.origin !== location.origin && !hosts.some((host) => fits(address, host))) return null;
  const traits = { alt: "", width: size, height: size, decoding: "async", referrerpolicy: "no-referrer" };
  const image = made("img", { ...traits, class: "avatar", src: address.href });
  image.addEventListener("error", () => image.remove());
  return image;
}

function fits(address, host) {
  if (address.protocol !== host.protocol || address.port !== host.port) return false;
  const { hostname } = host;
  if (!hostname.startsWith("*.") && !hostname.startsWith("%2A.")) return address.hostname === hostname;
  return address.hostname.endsWith(hostname.slice(hostname.indexOf(".")));
}
