// Small pieces that several pages share.
import { For, Show, type JSX } from "solid-js";
import type { Health } from "../model/pod";
import { go, pathOf, type Place } from "../router";

export function Link(props: { to: Place; children: JSX.Element; class?: string }) {
  return (
    <a class={props.class} href={pathOf(props.to)} onClick={(event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      go(props.to);
    }}>{props.children}</a>
  );
}

export function Card(props: { title: string; children: JSX.Element; class?: string }) {
  return (
    <section class={`card pv-card ${props.class ?? ""}`}>
      <h3 class="card-header">{props.title}</h3>
      <div class="card-block">{props.children}</div>
    </section>
  );
}

/** Names and values, as summary cards have them. */
export function Facts(props: { rows: [string, JSX.Element][] }) {
  return (
    <dl class="pv-facts">
      <For each={props.rows}>{([name, value]) => <><dt>{name}</dt><dd>{value}</dd></>}</For>
    </dl>
  );
}

const LABELS: Record<Health, string> = {
  success: "label label-success", warning: "label label-warning", danger: "label label-danger", neutral: "label",
};

export function Badge(props: { health: Health; text: string }) {
  return <span class={LABELS[props.health]}>{props.text}</span>;
}

export function Meter(props: { name: string; used: string; limit: string; percent: number | undefined }) {
  return (
    <div class="pv-meter">
      <div class="pv-meter-text"><strong>{props.name}</strong><span>{props.used} used of {props.limit}</span></div>
      <div class="progress-static" classList={{ danger: (props.percent ?? 0) > 90 }}>
        <div class="progress-meter" data-value={Math.round(props.percent ?? 0)} />
      </div>
    </div>
  );
}

export function Problem(props: { text: string | undefined }) {
  return <Show when={props.text}><p class="pv-problem" role="alert">{props.text}</p></Show>;
}

export function Tabs<T extends string>(props: { names: readonly T[]; chosen: T; choose: (name: T) => void }) {
  return (
    <ul class="nav" role="tablist">
      <For each={props.names}>{(name) => (
        <li class="nav-item" role="presentation">
          <button type="button" role="tab" class="btn btn-link nav-link" classList={{ active: props.chosen === name }}
            aria-selected={props.chosen === name} onClick={() => props.choose(name)}>{name}</button>
        </li>
      )}</For>
    </ul>
  );
}
