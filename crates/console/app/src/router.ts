// Where the console is: one signal over the location, the tab of a page in the fragment. Five kinds of places need
// no library.
import { createSignal } from "solid-js";

export type Place =
  | { page: "supervisor" }
  | { page: "host"; name: string }
  | { page: "namespace"; name: string }
  | { page: "pod"; namespace: string; name: string };

export function parse(path: string): Place {
  const [page, first, second] = path.replace(/^\/console\/?/, "").split("/").map(decodeURIComponent);
  if (page === "hosts" && first) return { page: "host", name: first };
  if (page === "namespaces" && first && second) return { page: "pod", namespace: first, name: second };
  if (page === "namespaces" && first) return { page: "namespace", name: first };
  return { page: "supervisor" };
}

export function pathOf(place: Place): string {
  const encode = encodeURIComponent;
  switch (place.page) {
    case "supervisor": return "/console/";
    case "host": return `/console/hosts/${encode(place.name)}`;
    case "namespace": return `/console/namespaces/${encode(place.name)}`;
    case "pod": return `/console/namespaces/${encode(place.namespace)}/${encode(place.name)}`;
  }
}

/** What the fragment calls a tab. */
export function slug(tab: string): string {
  return tab.toLowerCase().replaceAll(" ", "-");
}

const here = () => (typeof location === "undefined" ? { pathname: "/console/", hash: "" } : location);
const [place, setPlace] = createSignal<Place>(parse(here().pathname));
const [fragment, setFragment] = createSignal(here().hash.slice(1));
export { place };

if (typeof addEventListener !== "undefined") {
  addEventListener("popstate", () => {
    setFragment(location.hash.slice(1));
    // The same place with another tab is not built anew.
    const next = parse(location.pathname);
    if (pathOf(next) !== pathOf(place())) setPlace(next);
  });
}

export function go(to: Place): void {
  if (pathOf(to) === pathOf(place()) && !fragment()) return;
  history.pushState(null, "", pathOf(to));
  setFragment("");
  setPlace(to);
}

/** The chosen tab of the page: the first one unless the fragment names another. */
export function tabOf<T extends string>(names: readonly [T, ...T[]]): T {
  return names.find((name) => slug(name) === fragment()) ?? names[0];
}

export function chooseTab(name: string): void {
  history.pushState(null, "", `${location.pathname}#${slug(name)}`);
  setFragment(slug(name));
}
