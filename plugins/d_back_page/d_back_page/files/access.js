// Protected servers: a password, or a login at Discord (the OAuth2 implicit grant, which comes back
// to this page with a token in the fragment). Passwords stay in memory, a token in this tab.

import { cut } from "./text.js";
import { say } from "./words.js";

const AUTHORIZE = "https://discord.com/oauth2/authorize";
const TOKEN = "d-back token";
const TRIP = "d-back trip";

export class AccessDialog {
  constructor(link) {
    this.link = link;
    this.dialog = document.querySelector("#access");
    this.words = document.querySelector("#access-words");
    this.error = document.querySelector("#access-error");
    this.password = document.querySelector("#password");
    this.discord = document.querySelector("#access-discord");
    this.passwords = new Map(); // public id → password
    this.wanted = null;
    this.left = () => {}; // called when the visitor gives up
    document.querySelector("#access-form").addEventListener("submit", (event) => this.#join(event));
    document.querySelector("#access-leave").addEventListener("click", () => this.#leave());
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.#leave();
    });
    this.discord.addEventListener("click", () => this.#logIn());
    this.clientId = null; // the last one heard of: a protected server does not tell its own
    for (const type of ["servers", "join", "clientid"]) {
      link.addEventListener(type, () => this.#offer());
    }
  }

  /** The credentials for that server. */
  credentials(publicId) {
    const password = this.passwords.get(publicId);
    return password === undefined ? AccessDialog.credentials() : { password };
  }

  /** The token of a login in this tab. */
  static credentials() {
    const token = kept(TOKEN);
    if (token && Date.now() < token.until) return { token: token.value };
    return {};
  }

  /** Ask for credentials; `complaint` says why the last ones were refused. */
  ask(publicId, name, complaint) {
    this.wanted = publicId;
    const tried = this.passwords.has(publicId) || kept(TOKEN) !== null;
    this.passwords.delete(publicId);
    this.words.replaceChildren();
    const bold = document.createElement("bdi");
    bold.textContent = cut(name, 60);
    this.words.append(bold, say(" is protected."));
    this.error.textContent = complaint ?? (tried ? say("Access was refused.") : "");
    this.#offer();
    if (!this.dialog.open) this.dialog.showModal();
    this.password.value = "";
    this.password.focus();
  }

  /** Back from Discord: the public id that the visitor wanted to join, or null. */
  static returned() {
    const found = new URLSearchParams(location.hash.slice(1));
    const trip = kept(TRIP);
    if (!found.has("access_token") && !found.has("error")) return null;
    sessionStorage.removeItem(TRIP);
    history.replaceState(null, "", location.pathname + location.search);
    if (!trip || found.get("state") !== trip.state) return null; // not asked for by this tab
    const seconds = Number(found.get("expires_in")) || 3600;
    const value = found.get("access_token");
    if (value) keep(TOKEN, { value, until: Date.now() + seconds * 1000 });
    return trip.wanted;
  }

  #offer() {
    this.clientId = this.link.clientId ?? this.clientId;
    this.discord.hidden = !this.clientId;
  }

  #join(event) {
    event.preventDefault();
    if (!this.password.value) return;
    this.passwords.set(this.wanted, this.password.value);
    this.dialog.close();
    this.link.join(this.wanted, this.credentials(this.wanted));
  }

  #leave() {
    this.dialog.close();
    this.left();
  }

  #logIn() {
    const state = crypto.randomUUID?.() ?? String(crypto.getRandomValues(new Uint32Array(4)));
    keep(TRIP, { state, wanted: this.wanted });
    const address = new URL(AUTHORIZE);
    address.search = new URLSearchParams({
      client_id: this.clientId,
      redirect_uri: location.origin + location.pathname,
      response_type: "token",
      scope: "identify",
      state,
    });
    location.assign(address);
  }
}

function kept(key) {
  return JSON.parse(sessionStorage.getItem(key) ?? "null");
}

function keep(key, value) {
  sessionStorage.setItem(key, JSON.stringify(value));
}
