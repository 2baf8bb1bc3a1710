// Small pieces that several pages share.
import { For, Show, type JSX } from "solid-js";
import { percent } from "../model/format";
import type { Health } from "../model/pod";
import { chooseTab, go, pathOf, slug, type Place } from "../router";
import { Icon, type Kind } from "./icons";

export function Link(props: { to: Place; children: JSX.Element; class?: string; current?: boolean }) {
  return (
    <a class={props.class} href={pathOf(props.to)} aria-current={props.current ? "page" : undefined} onClick={(event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      go(props.to);
    }}>{props.children}</a>
  );
}

/** The head of a page: where it is, what it shows, how that is. */
export function Head(props: { kind: Kind; title: string; parents: [string, Place][]; health?: Health; state?: string }) {
  return (
    <div class="pv-head">
      <Show when={props.parents.length}>
        <nav class="pv-crumbs" aria-label="Breadcrumb">
          <For each={props.parents}>{([name, to], at) => <><Show when={at()}><span aria-hidden="true">/</span></Show><Link to={to}>{name}</Link></>}</For>
        </nav>
      </Show>
      <h1 class="pv-title" title={props.title}>
        <Icon kind={props.kind} large />
        <span class="pv-title-text">{props.title}</span>
        <Show when={props.state}>{(state) => <Badge health={props.health ?? "neutral"} text={state()} />}</Show>
      </h1>
    </div>
  );
}

export function Card(props: { title: string; children: JSX.Element; class?: string }) {
  return (
    <section class={`pv-card ${props.class ?? ""}`} aria-label={props.title}>
      <h2 class="pv-card-title">{props.title}</h2>
      <div class="pv-card-body">{props.children}</div>
    </section>
  );
}

/** A name, and the value as a function: it changes alone, and a link or a selection beside it stays. */
export type Fact = [string, () => JSX.Element];

/** Names and values, as summary cards have them. */
export function Facts(props: { rows: Fact[] }) {
  return (
    <dl class="pv-facts">
      <For each={props.rows}>{([name, value]) => <><dt>{name}</dt><dd>{value()}</dd></>}</For>
    </dl>
  );
}

const LABELS: Record<Health, string> = {
  success: "label label-success", warning: "label label-warning", danger: "label label-danger", neutral: "label",
};

export function Badge(props: { health: Health; text: string }) {
  return <span class={`${LABELS[props.health]} pv-badge`}>{props.text}</span>;
}

/** How much of something is promised, and how much of it is used at this moment. */
export function Meter(props: {
  name: string; promised: number | undefined; limit: number | undefined; used?: number; format: (value: number | undefined) => string;
}) {
  const share = () => percent(props.promised, props.limit) ?? 0;
  const now = () => percent(props.used, props.limit);
  return (
    <div class="pv-meter" data-meter={slug(props.name)}>
      <div class="pv-meter-text">
        <strong>{props.name}</strong>
        <span>{props.format(props.promised ?? 0)} <span class="pv-quiet">of {props.format(props.limit)}</span></span>
      </div>
      <div class="pv-bar" classList={{ "pv-nearly": share() > 90 && share() < 100, "pv-full": share() >= 100 }} role="meter" aria-label={props.name}
        aria-valuemin="0" aria-valuemax="100" aria-valuenow={Math.round(share())}>
        <div class="pv-bar-promised" style={{ width: `${share()}%` }} />
        <Show when={now() !== undefined}><div class="pv-bar-used" style={{ width: `${now()}%` }} /></Show>
      </div>
      <Show when={props.used !== undefined}><div class="pv-meter-now">{props.format(props.used)} in use now</div></Show>
    </div>
  );
}

export function Problem(props: { text: string | undefined; warning?: boolean }) {
  return (
    <Show when={props.text}>
      {(text) => (
        <div class="alert pv-alert" classList={{ "alert-danger": !props.warning, "alert-warning": props.warning }} role="alert">
          <div class="alert-items"><div class="alert-item static"><span class="alert-text">{text()}</span></div></div>
        </div>
      )}
    </Show>
  );
}

/** What a list shows that has nothing to show. */
export function Empty(props: { title: string; hint?: JSX.Element }) {
  return <div class="pv-empty"><strong>{props.title}</strong><Show when={props.hint}><span>{props.hint}</span></Show></div>;
}

export function Tabs<T extends string>(props: { names: readonly T[]; chosen: T }) {
  return (
    <ul class="nav pv-tabs" role="tablist">
      <For each={props.names}>{(name) => (
        <li class="nav-item" role="presentation">
          <button type="button" role="tab" class="btn btn-link nav-link" classList={{ active: props.chosen === name }}
            aria-selected={props.chosen === name} onClick={() => chooseTab(name)}>{name}</button>
        </li>
      )}</For>
    </ul>
  );
}
