// The pictures of the inventory: one per kind of thing, drawn in the text's colour; VMs carry their state.
import { Match, Show, Switch } from "solid-js";
import type { Health } from "../model/pod";

export type Kind = "supervisor" | "hosts" | "host" | "namespaces" | "namespace" | "vm";

export function Icon(props: { kind: Kind; health?: Health; large?: boolean }) {
  return (
    <svg class="pv-icon" classList={{ "pv-icon-large": props.large }} viewBox="0 0 18 18" fill="none" stroke="currentColor"
      stroke-width="1.3" stroke-linejoin="round" stroke-linecap="round" aria-hidden="true">
      <Switch>
        <Match when={props.kind === "supervisor"}>
          <path d="M9 1.6l6.4 3.7v7.4L9 16.4l-6.4-3.7V5.3z" /><path d="M9 5.7l2.9 1.65v3.3L9 12.3l-2.9-1.65v-3.3z" fill="currentColor" stroke="none" />
        </Match>
        <Match when={props.kind === "hosts"}>
          <path d="M2 4.5h5l1.4 1.8H16v8.2H2z" />
        </Match>
        <Match when={props.kind === "namespaces"}>
          <path d="M2 4.5h5l1.4 1.8H16v8.2H2z" />
        </Match>
        <Match when={props.kind === "host"}>
          <rect x="2.5" y="2.6" width="13" height="5.4" rx="1" /><rect x="2.5" y="10" width="13" height="5.4" rx="1" />
          <path d="M5.2 5.3h.1M5.2 12.7h.1M8.5 5.3h4.2M8.5 12.7h4.2" />
        </Match>
        <Match when={props.kind === "namespace"}>
          <path d="M9 2l5.8 2.9L9 7.8 3.2 4.9z" /><path d="M3.2 9L9 11.9 14.8 9M3.2 13L9 15.9l5.8-2.9" />
        </Match>
        <Match when={props.kind === "vm"}>
          <rect x="1.8" y="3" width="12.4" height="9" rx="1" /><path d="M5 15.2h6M8 12v3.2" />
        </Match>
      </Switch>
      <Show when={props.health}>
        {(health) => (
          <g class={`pv-state pv-state-${health()}`}>
            <circle cx="13.2" cy="13" r="4.4" stroke="none" />
            <Switch>
              <Match when={health() === "success"}><path d="M12 10.9l3.2 2.1-3.2 2.1z" fill="#fff" stroke="#fff" stroke-width=".6" /></Match>
              <Match when={health() === "danger"}><path d="M11.7 11.5l3 3m0-3l-3 3" stroke="#fff" /></Match>
              <Match when={health() === "warning"}><path d="M13.2 10.8v2.4l1.5 1" stroke="#fff" /></Match>
              <Match when={health() === "neutral"}><path d="M11.9 11.7h2.6v2.6h-2.6z" fill="#fff" stroke="none" /></Match>
            </Switch>
          </g>
        )}
      </Show>
    </svg>
  );
}

/** The product's mark. */
export function Mark(props: { large?: boolean }) {
  return <span class="pv-mark" classList={{ "pv-mark-large": props.large }} aria-hidden="true" />;
}

/** The caret of a branch. */
export function Caret(props: { open: boolean }) {
  return (
    <svg class="pv-caret-icon" classList={{ "pv-open": props.open }} viewBox="0 0 10 10" fill="none" stroke="currentColor" stroke-width="1.4" aria-hidden="true">
      <path d="M3.4 1.8L6.8 5 3.4 8.2" />
    </svg>
  );
}
