// The Supervisor: its namespaces and all Pods that the user may see.
import { For, Show } from "solid-js";
import type { Inventory } from "../inventory";
import { podStatus } from "../model/pod";
import { Card, Facts, Link } from "./parts";
import { PodTable } from "./pods";

export function SupervisorPage(props: { inventory: Inventory }) {
  const pods = () => props.inventory.allPods();
  const running = () => pods().filter((pod) => podStatus(pod) === "Running").length;
  return (
    <>
      <h1 class="pv-title">Supervisor</h1>
      <div class="pv-cards">
        <Card title="Summary">
          <Facts rows={[
            ["Hosts", <Show when={props.inventory.everything()} fallback="not shown to you">{props.inventory.nodes().length}</Show>],
            ["Namespaces", props.inventory.namespaces().length],
            ["Pod VMs", `${running()} running of ${pods().length}`],
          ]} />
        </Card>
        <Card title="Namespaces">
          <ul class="list-unstyled">
            <For each={props.inventory.namespaces()} fallback={<li class="pv-quiet">No namespaces.</li>}>{(name) => (
              <li><Link to={{ page: "namespace", name }}>{name}</Link> <span class="pv-quiet">{props.inventory.pods(name).length} Pod VMs</span></li>
            )}</For>
          </ul>
        </Card>
      </div>
      <h2>Pod VMs</h2>
      <PodTable pods={pods()} namespaces />
    </>
  );
}
