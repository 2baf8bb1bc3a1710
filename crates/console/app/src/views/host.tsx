// A host: what it has, how it is, which VMs it runs.
import { For, Show } from "solid-js";
import type { Inventory } from "../inventory";
import { bytes, cpus, quantity } from "../model/format";
import { Badge, Card, Facts } from "./parts";
import { PodTable } from "./pods";

export function HostPage(props: { inventory: Inventory; name: string }) {
  const node = () => props.inventory.nodes().find((node) => node.metadata.name === props.name);
  const pods = () => props.inventory.allPods().filter((pod) => pod.spec?.nodeName === props.name);
  const condition = (type: string) => node()?.status?.conditions?.find((condition) => condition.type === type);
  const allocatable = (name: string) => quantity(node()?.status?.allocatable?.[name]);
  return (
    <Show when={node()} fallback={<p class="pv-quiet">Host {props.name} is not there.</p>}>
      <h1 class="pv-title">{props.name}</h1>
      <div class="pv-cards">
        <Card title="Status">
          <Facts rows={[
            ["State", <Badge health={condition("Ready")?.status === "True" ? "success" : "danger"} text={condition("Ready")?.status === "True" ? "Ready" : "Not ready"} />],
            ["Scheduling", node()?.spec?.unschedulable ? "cordoned" : "open"],
            ["Address", node()?.status?.addresses?.find((a) => a.type === "InternalIP")?.address ?? "–"],
            ["Pod addresses", node()?.spec?.podCIDR ?? "–"],
          ]} />
        </Card>
        <Card title="Capacity">
          <Facts rows={[
            ["CPU", cpus(allocatable("cpu"))],
            ["Memory", bytes(allocatable("memory"))],
            ["Pods", node()?.status?.allocatable?.["pods"] ?? "–"],
            ["Images", node()?.status?.images?.length ?? 0],
          ]} />
        </Card>
        <Card title="System">
          <Facts rows={[
            ["Runtime", node()?.status?.nodeInfo?.["containerRuntimeVersion"] ?? "–"],
            ["Kernel", node()?.status?.nodeInfo?.["kernelVersion"] ?? "–"],
            ["System", node()?.status?.nodeInfo?.["osImage"] ?? "–"],
          ]} />
          <For each={node()?.status?.conditions?.filter((c) => c.type !== "Ready" && c.status === "True")}>{(c) => (
            <p class="pv-problem">{c.type}: {c.message}</p>
          )}</For>
        </Card>
      </div>
      <h2>Pod VMs</h2>
      <PodTable pods={pods()} namespaces />
    </Show>
  );
}
