// Where the console is: one signal over the location. Five kinds of places need no library.
import { createSignal } from "solid-js";

export type Place =
  | { page: "supervisor" }
  | { page: "host"; name: string }
  | { page: "namespace"; name: string }
  | { page: "pod"; namespace: string; name: string };

function parse(path: string): Place {
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

const [place, setPlace] = createSignal<Place>(parse(location.pathname));
addEventListener("popstate", () => setPlace(parse(location.pathname)));
export { place };

export function go(to: Place): void {
  history.pushState(null, "", pathOf(to));
  setPlace(to);
}
