// /embed/SERVER: one community in a frame of another page. Attributes come from the query.

import "./v1/d-back-community.js";

const asked = new URLSearchParams(location.search);
const element = document.createElement("d-back-community");
element.setAttribute("server", location.pathname.split("/").at(-1));
const join = document.querySelector("meta[name=d-back-join]").content;
if (join) element.setAttribute("join", join);
if (document.querySelector("meta[name=d-back-avatars]").content) element.toggleAttribute("avatars");
for (const name of ["size", "theme", "chat", "join", "max", "lang"]) {
  if (asked.has(name)) element.setAttribute(name, asked.get(name));
}
document.querySelector("main").append(element);
