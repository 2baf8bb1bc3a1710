// Light or dark: what the person chose, else what the system prefers.
import { createSignal } from "solid-js";

export type Theme = "light" | "dark";
const KEY = "podvisor.theme";

function initial(): Theme {
  const chosen = localStorage.getItem(KEY);
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

const [theme, setSignal] = createSignal<Theme>(initial());
document.documentElement.setAttribute("cds-theme", theme());
export { theme };

export function toggleTheme(): void {
  const next = theme() === "dark" ? "light" : "dark";
  localStorage.setItem(KEY, next);
  document.documentElement.setAttribute("cds-theme", next);
  setSignal(next);
}
