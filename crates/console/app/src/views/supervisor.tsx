// The Supervisor: its hosts, namespaces and all Pods that the user may see.
import { For, Show } from "solid-js";
import type { Inventory } from "../inventory";
import { bytes, count, cpus, plural, quantity } from "../model/format";
import { condition, podStatus, states, vmSize } from "../model/pod";
import { Card, Empty, Facts, Head, Link, Meter, type Fact } from "./parts";
import { Icon } from "./icons";
import { PodTable } from "./pods";

export function SupervisorPage(props: { inventory: Inventory }) {
  const pods = () => props.inventory.allPods();
  const nodes = () => props.inventory.nodes();
  const ready = () => nodes().filter((node) => condition(node.status?.conditions, "Ready")?.status === "True").length;
  const sum = (name: string) => nodes().reduce((total, node) => total + (quantity(node.status?.allocatable?.[name]) ?? 0), 0);
  const live = () => pods().filter((pod) => pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed");
  const running = () => pods().filter((pod) => podStatus(pod) === "Running").length;
  return (
    <>
      <Head kind="supervisor" title="Supervisor" parents={[]} />
      <div class="pv-cards pv-top">
        <Card title="Summary">
          <Facts rows={[
            ...(props.inventory.everything() ? [["Hosts", () => `${ready()} of ${nodes().length} ready`] as Fact] : []),
            ["Namespaces", () => <>{props.inventory.namespaces().length}</>],
            ["Pod VMs", () => <span id="running">{running()} running of {pods().length}</span>],
            ["CLI tools", () => <a href="/" target="_blank" rel="noreferrer">Open</a>],
          ]} />
        </Card>
        <Show when={props.inventory.everything()}>
          <Card title="Capacity, reserved by Pod VMs">
            <Meter name="CPU" format={cpus} promised={live().reduce((total, pod) => total + (vmSize(pod).cpuReserved ?? 0), 0)} limit={sum("cpu")} />
            <Meter name="Memory" format={bytes} promised={live().reduce((total, pod) => total + (vmSize(pod).memoryReserved ?? 0), 0)} limit={sum("memory")} />
            <Meter name="Pod VMs" format={count} promised={live().length} limit={sum("pods")} />
          </Card>
        </Show>
        <Card title="Namespaces">
          <Show when={props.inventory.namespaces().length} fallback={
            <Empty title={props.inventory.everything() ? "No namespaces yet" : "No namespace is open to you"}
              hint={props.inventory.everything() ? "podvisor namespace create NAME makes one." : "Ask an administrator for a grant."} />
          }>
            <ul class="pv-grants">
              <For each={props.inventory.namespaces()}>{(name) => (
                <li>
                  <Link class="pv-subject pv-with-icon" to={{ page: "namespace", name }}><Icon kind="namespace" /><span class="pv-name" title={name}>{name}</span></Link>
                  <span class="pv-quiet pv-aside" title={states(props.inventory.pods(name))}>{plural(props.inventory.pods(name).length, "Pod VM")}</span>
                </li>
              )}</For>
            </ul>
          </Show>
        </Card>
      </div>
      <h2 class="pv-section">Pod VMs <span class="pv-count">{pods().length}</span></h2>
      <PodTable pods={pods()} namespaces />
    </>
  );
}
