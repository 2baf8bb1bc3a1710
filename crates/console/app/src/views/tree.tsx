// The inventory tree: Supervisor; Hosts; Namespaces with their Pods, as VMs.
import { For, Show, createSignal, type JSX } from "solid-js";
import type { Inventory } from "../inventory";
import { condition, podHealth, podStatus, type Health } from "../model/pod";
import { pathOf, place, type Place } from "../router";
import { Caret, Icon, type Kind } from "./icons";
import { Link } from "./parts";

export function InventoryTree(props: { inventory: Inventory }) {
  const hostHealth = (ready: string | undefined): Health => (ready === "True" ? "success" : "danger");
  return (
    <nav class="pv-tree" aria-label="Inventory" onKeyDown={walk}>
      <ul role="tree">
        <Branch row={<Leaf to={{ page: "supervisor" }} kind="supervisor" text="Supervisor" />}>
          <Show when={props.inventory.nodes().length}>
            <Branch row={<Folder kind="hosts" text="Hosts" />}>
              <For each={props.inventory.nodes()}>{(node) => (
                <li role="treeitem" data-host={node.metadata.name}>
                  <Leaf to={{ page: "host", name: node.metadata.name ?? "" }} kind="host" text={node.metadata.name ?? ""}
                    health={hostHealth(condition(node.status?.conditions, "Ready")?.status)} />
                </li>
              )}</For>
            </Branch>
          </Show>
          <Branch row={<Folder kind="namespaces" text="Namespaces" />}>
            <For each={props.inventory.namespaces()} fallback={
              <Show when={props.inventory.ready()}><li class="pv-leaf pv-quiet">none yet</li></Show>
            }>{(name) => (
              <Branch data={name} row={<Leaf to={{ page: "namespace", name }} kind="namespace" text={name} />}>
                <For each={props.inventory.pods(name)}>{(pod) => (
                  <li role="treeitem" data-pod={pod.metadata.name}>
                    <Leaf to={{ page: "pod", namespace: name, name: pod.metadata.name ?? "" }} kind="vm"
                      health={podHealth(pod)} text={pod.metadata.name ?? ""} hint={podStatus(pod)} />
                  </li>
                )}</For>
              </Branch>
            )}</For>
          </Branch>
        </Branch>
      </ul>
    </nav>
  );
}

function Branch(props: { row: JSX.Element; children: JSX.Element; data?: string }) {
  const [open, setOpen] = createSignal(true);
  return (
    <li role="treeitem" aria-expanded={open()} data-namespace={props.data}>
      <span class="pv-branch">
        <button type="button" class="pv-caret" aria-label={open() ? "Collapse" : "Expand"} onClick={() => setOpen(!open())}>
          <Caret open={open()} />
        </button>
        {props.row}
      </span>
      <Show when={open()}><ul role="group">{props.children}</ul></Show>
    </li>
  );
}

function Folder(props: { kind: Kind; text: string }) {
  return <span class="pv-leaf pv-folder"><Icon kind={props.kind} /><span class="pv-name">{props.text}</span></span>;
}

function Leaf(props: { to: Place; kind: Kind; text: string; health?: Health; hint?: string }) {
  const chosen = () => pathOf(place()) === pathOf(props.to);
  return (
    <Link to={props.to} class={chosen() ? "pv-leaf pv-chosen" : "pv-leaf"} current={chosen()}>
      <Icon kind={props.kind} health={props.health} />
      <span class="pv-name" title={props.hint ? `${props.text}: ${props.hint}` : props.text}>{props.text}</span>
    </Link>
  );
}

/** Arrow keys: up and down through what is shown, left and right to close and open a branch. */
function walk(event: KeyboardEvent & { currentTarget: HTMLElement }): void {
  const here = document.activeElement;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    const rows = [...event.currentTarget.querySelectorAll<HTMLElement>("a.pv-leaf")];
    const next = rows[rows.indexOf(here as HTMLElement) + step];
    next?.focus();
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const branch = here?.closest<HTMLElement>("li[aria-expanded]");
    if (!branch || (branch.ariaExpanded === "true") === (event.key === "ArrowRight")) return;
    branch.querySelector<HTMLElement>(".pv-caret")?.click();
    branch.querySelector<HTMLElement>("a.pv-leaf")?.focus();
  } else return;
  event.preventDefault();
}
