// The page's words in the language of the browser: English, or German.

const GERMAN = {
  "Skip to the members": "Zu den Mitgliedern",
  Server: "Server",
  "in 2 min": "in 2 min",
  "No events yet": "Noch keine Ereignisse",
  "{0} events in the last two minutes": "{0} Ereignisse in den letzten zwei Minuten",
  Connecting: "Verbinde",
  Live: "Live",
  Waiting: "Warten",
  Lost: "Getrennt",
  Offline: "Offline",
  Refused: "Abgewiesen",
  Chain: "Kette",
  Operator: "Betreiber",
  Join: "Beitreten",
  "The plaza": "Der Platz",
  "Arrow keys move the view, plus and minus zoom, 0 shows everything. The members are in the list.":
    "Pfeiltasten bewegen den Ausschnitt, Plus und Minus vergrößern und verkleinern, 0 zeigt alles. Die Mitglieder stehen in der Liste.",
  View: "Ansicht",
  "Zoom in": "Vergrößern",
  "Zoom out": "Verkleinern",
  "Show everything": "Alles zeigen",
  Follow: "Folgen",
  "Move to members who speak": "Zu Mitgliedern, die schreiben",
  Member: "Mitglied",
  Messages: "Nachrichten",
  "Chat: {0} new": "Chat: {0} neue",
  Status: "Status",
  Activity: "Aktivität",
  Pronouns: "Pronomen",
  "Role colour": "Rollenfarbe",
  none: "keine",
  "last known: {0}": "zuletzt bekannt: {0}",
  "{0} since {1} ({2})": "{0} seit {1} ({2})",
  "{0} for at least {1}, as long as this page has watched":
    "{0} seit mindestens {1}, so lange sieht diese Seite zu",
  "Loading the members": "Mitglieder werden geladen",
  "Try now": "Jetzt versuchen",
  Chat: "Chat",
  "No messages since you came.": "Keine Nachrichten, seit Sie hier sind.",
  Members: "Mitglieder",
  "Find a member": "Mitglied suchen",
  "Go to a status": "Zu einem Status",
  Motion: "Bewegung",
  Embed: "Einbetten",
  "On your own page": "Auf der eigenen Seite",
  "These two lines show this server on any page, live.":
    "Diese zwei Zeilen zeigen diesen Server live auf jeder Seite.",
  "Lines to copy": "Zeilen zum Kopieren",
  Copy: "Kopieren",
  Copied: "Kopiert",
  Close: "Schließen",
  "The chain": "Die Kette",
  "Providers, highest first": "Anbieter, der höchste zuerst",
  "Provider of each server": "Anbieter je Server",
  Exchanges: "Wechsel",
  "No provider has taken over from another since these servers are held.":
    "Seit diese Server gehalten werden, hat kein Anbieter einen anderen abgelöst.",
  "The connection is lost. This was the state {0} ago.":
    "Die Verbindung ist unterbrochen. Das ist der Stand von vor {0}.",
  "Not known": "Nicht bekannt",
  "A provider is {0}": "Ein Anbieter ist {0}",
  Warnings: "Warnungen",
  "Warnings: {0}": "Warnungen: {0}",
  starting: "im Start",
  ready: "bereit",
  degraded: "gestört",
  failed: "ausgefallen",
  answers: "antwortet",
  waits: "wartet",
  "beside the chain": "neben der Kette",
  "no provider": "kein Anbieter",
  "for {0}": "seit {0}",
  "{0} for {1}": "{0} seit {1}",
  "last state": "letzter Stand",
  "{0} users, {1} watching": "{0} Benutzer, {1} sehen zu",
  "tried again in {0}": "neuer Versuch in {0}",
  "1 record": "1 Datensatz",
  "{0} records": "{0} Datensätze",
  "answered in {0} ms": "Antwort in {0} ms",
  "{0} of {1} calls failed": "{0} von {1} Aufrufen fehlgeschlagen",
  "{0} to store": "{0} noch zu speichern",
  "1 change": "1 Änderung",
  "{0} changes": "{0} Änderungen",
  "and {0} more": "und {0} weitere",
  joined: "ist neu",
  left: "ist weg",
  was: "war",
  "All providers are ready": "Alle Anbieter sind bereit",
  "Access required": "Zugang erforderlich",
  Password: "Passwort",
  "Log in with Discord": "Mit Discord anmelden",
  "Not now": "Nicht jetzt",
  "For the operator": "Für den Betreiber",
  Token: "Token",
  Open: "Öffnen",
  "The token is wrong.": "Das Token ist falsch.",
  "Access was refused.": "Der Zugang wurde verweigert.",
  " is protected.": " ist geschützt.",
  "This server": "Dieser Server",
  "No server": "Kein Server",
  "{0} (protected)": "{0} (geschützt)",
  Online: "Online",
  Idle: "Abwesend",
  "Do not disturb": "Nicht stören",
  "Connected again; nothing was missed.": "Wieder verbunden; nichts wurde verpasst.",
  "{0} is gone.": "{0} ist nicht mehr da.",
  "There is no such server any more.": "Diesen Server gibt es nicht mehr.",
  "1 member, {1} online": "1 Mitglied, {1} online",
  "{0} members, {1} online": "{0} Mitglieder, {1} online",
  "{0}: {1} online": "{0}: {1} online",
  "No members yet.": "Noch keine Mitglieder.",
  "No server yet. The gateway runs and waits for a provider.":
    "Noch kein Server. Das Gateway läuft und wartet auf einen Anbieter.",
  " This was the state {0} ago.": " Das war der Stand vor {0}.",
  "This device is offline.": "Dieses Gerät ist offline.",
  "The gateway has refused this page.": "Das Gateway hat diese Seite abgewiesen.",
  "The connection is lost. Trying now…": "Die Verbindung ist unterbrochen. Neuer Versuch …",
  "The connection is lost. Trying again in {0} s.":
    "Die Verbindung ist unterbrochen. Neuer Versuch in {0} s.",
  "No member is called “{0}”.": "Kein Mitglied heißt „{0}“.",
};

const LANGUAGES = ["de", "en"];
const wanted = navigator.languages.map((each) => each.slice(0, 2).toLowerCase());

/** "en" or "de": the first of the browser's languages that the page has. */
export const language = wanted.find((each) => LANGUAGES.includes(each)) ?? "en";

/** The language with the browser's region, for numbers and times. */
export const locale =
  navigator.languages.find((each) => each.toLowerCase().startsWith(language)) ?? language;

/** The sentence in the page's language; {0}, {1} … are replaced. */
export function say(sentence, ...values) {
  const words = (language === "de" && GERMAN[sentence]) || sentence;
  return words.replace(/\{(\d)\}/g, (_, at) => String(values[at]));
}

export function number(value) {
  return value.toLocaleString(locale);
}

/** Hours, minutes and seconds. */
export const long = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });

/** Hours and minutes. */
export const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });

/** Translate what index.html says. Called before anything is added to the document. */
export function translate() {
  document.documentElement.lang = language;
  if (language === "en") return;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { data } = texts.currentNode;
    const words = data.trim().replace(/\s+/g, " ");
    if (GERMAN[words]) texts.currentNode.data = data.replace(data.trim(), GERMAN[words]);
  }
  for (const name of ["aria-label", "placeholder", "title"]) {
    for (const element of document.querySelectorAll(`[${name}]`)) {
      element.setAttribute(name, say(element.getAttribute(name)));
    }
  }
}
