// The inventory tree: Supervisor; Hosts; Namespaces with their Pods, as VMs.
import { For, Show, createSignal, type JSX } from "solid-js";
import type { Inventory } from "../inventory";
import { podHealth } from "../model/pod";
import { pathOf, place, type Place } from "../router";
import { Link } from "./parts";

export function InventoryTree(props: { inventory: Inventory }) {
  return (
    <nav class="pv-tree" aria-label="Inventory">
      <ul role="tree">
        <Branch label={<Leaf to={{ page: "supervisor" }} icon="supervisor" text="Supervisor" />}>
          <Show when={props.inventory.nodes().length}>
            <Branch label={<span class="pv-folder">Hosts</span>}>
              <For each={props.inventory.nodes().map((node) => node.metadata.name ?? "")}>{(name) => (
                <li role="treeitem"><Leaf to={{ page: "host", name }} icon="host" text={name} /></li>
              )}</For>
            </Branch>
          </Show>
          <Branch label={<span class="pv-folder">Namespaces</span>}>
            <For each={props.inventory.namespaces()}>{(name) => (
              <Branch label={<Leaf to={{ page: "namespace", name }} icon="namespace" text={name} />}>
                <For each={props.inventory.pods(name)}>{(pod) => (
                  <li role="treeitem" data-pod={pod.metadata.name}>
                    <Leaf to={{ page: "pod", namespace: name, name: pod.metadata.name ?? "" }}
                      icon={`vm pv-${podHealth(pod)}`} text={pod.metadata.name ?? ""} />
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

function Branch(props: { label: JSX.Element; children: JSX.Element }) {
  const [open, setOpen] = createSignal(true);
  return (
    <li role="treeitem" aria-expanded={open()}>
      <span class="pv-branch">
        <button type="button" class="pv-caret" aria-label={open() ? "Collapse" : "Expand"} onClick={() => setOpen(!open())}>
          {open() ? "▾" : "▸"}
        </button>
        {props.label}
      </span>
      <Show when={open()}><ul role="group">{props.children}</ul></Show>
    </li>
  );
}

function Leaf(props: { to: Place; icon: string; text: string }) {
  const chosen = () => pathOf(place()) === pathOf(props.to);
  return (
    <span class="pv-leaf" classList={{ "pv-chosen": chosen() }}>
      <span class={`pv-icon pv-icon-${props.icon}`} aria-hidden="true" />
      <Link to={props.to}>{props.text}</Link>
    </span>
  );
}
