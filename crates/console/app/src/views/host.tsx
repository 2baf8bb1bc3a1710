// A host: what it has, how it is, which VMs it runs.
import { For, Show } from "solid-js";
import { now } from "../clock";
import type { Inventory } from "../inventory";
import { age, bytes, count, cpus, quantity } from "../model/format";
import { condition, podStatus, states, vmSize } from "../model/pod";
import { Badge, Card, Empty, Facts, Head, Meter } from "./parts";
import { PodTable } from "./pods";

export function HostPage(props: { inventory: Inventory; name: string }) {
  const node = () => props.inventory.nodes().find((node) => node.metadata.name === props.name);
  const pods = () => props.inventory.allPods().filter((pod) => pod.spec?.nodeName === props.name);
  const live = () => pods().filter((pod) => podStatus(pod) !== "Completed" && pod.status?.phase !== "Failed");
  const ready = () => condition(node()?.status?.conditions, "Ready");
  const allocatable = (name: string) => quantity(node()?.status?.allocatable?.[name]);
  const reserved = (of: (size: ReturnType<typeof vmSize>) => number | undefined) =>
    live().reduce((sum, pod) => sum + (of(vmSize(pod)) ?? 0), 0);
  const info = (name: string) => node()?.status?.nodeInfo?.[name] ?? "–";
  const parents: [string, { page: "supervisor" }][] = [["Supervisor", { page: "supervisor" }]];
  return (
    <Show when={node()} fallback={<><Head kind="host" title={props.name} parents={parents} state="Not there" /><Empty title="This host is not there" /></>}>
      <Head kind="host" title={props.name} parents={parents}
        health={ready()?.status === "True" ? "success" : "danger"} state={ready()?.status === "True" ? "Ready" : "Not ready"} />
      <div class="pv-cards pv-top">
        <Card title="Status">
          <Facts rows={[
            ["State", () => <span id="host-state">{ready()?.status === "True" ? "Ready" : ready()?.message || "Not ready"}</span>],
            ["Pod VMs", () => states(pods()) || "none"],
            ["Scheduling", () => (node()?.spec?.unschedulable ? "cordoned" : "open")],
            ["Address", () => node()?.status?.addresses?.find((a) => a.type === "InternalIP")?.address ?? "–"],
            ["Pod addresses", () => node()?.spec?.podCIDR ?? "–"],
            ["Images", () => <>{node()?.status?.images?.length ?? 0}</>],
            ["Age", () => age(node()?.metadata.creationTimestamp, now())],
          ]} />
        </Card>
        <Card title="Capacity, reserved by Pod VMs">
          <Meter name="CPU" format={cpus} promised={reserved((size) => size.cpuReserved)} limit={allocatable("cpu")} />
          <Meter name="Memory" format={bytes} promised={reserved((size) => size.memoryReserved)} limit={allocatable("memory")} />
          <Meter name="Pod VMs" format={count} promised={live().length} limit={allocatable("pods")} />
        </Card>
        <Card title="System">
          <Facts rows={[
            ["Hypervisor", () => info("containerRuntimeVersion")],
            ["Agent", () => info("kubeletVersion")],
            ["Kernel", () => info("kernelVersion")],
            ["System", () => info("osImage")],
            ["Architecture", () => info("architecture")],
          ]} />
        </Card>
      </div>
      <Show when={node()?.status?.conditions?.length}>
        <h2 class="pv-section">Conditions</h2>
        <div class="pv-scroll"><table class="table table-compact pv-table" id="conditions">
          <thead><tr><th class="left">Condition</th><th class="left">Status</th><th class="left">Message</th><th class="right">Since</th></tr></thead>
          <tbody>
            <For each={node()?.status?.conditions}>{(it) => (
              <tr>
                <td class="left">{it.type}</td>
                <td class="left"><Badge health={(it.status === "True") === isGood(it.type) ? "success" : "warning"} text={it.status} /></td>
                <td class="left pv-message">{it.message}</td>
                <td class="right pv-number">{age(it.lastTransitionTime, now())}</td>
              </tr>
            )}</For>
          </tbody>
        </table></div>
      </Show>
      <h2 class="pv-section">Pod VMs <span class="pv-count">{pods().length}</span></h2>
      <PodTable pods={pods()} namespaces />
    </Show>
  );
}

/** Whether a condition is good news when it is true: pressure and outages are not. */
function isGood(type: string): boolean {
  return !/Pressure$|Unavailable$/.test(type);
}
