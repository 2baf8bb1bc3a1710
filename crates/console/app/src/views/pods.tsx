// Pods as a table of VMs, with what each uses at this moment.
import { For, Show } from "solid-js";
import type { Usage } from "../api/metrics";
import { now } from "../clock";
import { age, bytes, cpus, percent } from "../model/format";
import { FRESH, type Point } from "../model/metrics";
import { podHealth, podStatus, restarts, vmSize } from "../model/pod";
import type { Pod } from "../model/types";
import { Icon } from "./icons";
import { Badge, Empty, Link } from "./parts";

export function PodTable(props: { pods: Pod[]; namespaces?: boolean; usage?: Usage; hint?: string }) {
  return (
    <Show when={props.pods.length} fallback={<Empty title="No Pod VMs" hint={props.hint ?? "They appear here as soon as Pods are created."} />}>
      <div class="pv-scroll"><table class="table table-compact pv-table" id="pods">
        <thead>
          <tr>
            <th class="left">Name</th>
            <Show when={props.namespaces}><th class="left">Namespace</th></Show>
            <th class="left">State</th>
            <th class="left">CPU</th><th class="left">Memory</th>
            <th class="left">Address</th><th class="left">Host</th>
            <th class="right">Restarts</th><th class="right">Age</th>
          </tr>
        </thead>
        <tbody>
          <For each={props.pods}>{(pod) => <Row pod={pod} usage={props.usage} namespaces={props.namespaces} />}</For>
        </tbody>
      </table></div>
    </Show>
  );
}

function Row(props: { pod: Pod; usage?: Usage; namespaces?: boolean }) {
  const size = () => vmSize(props.pod);
  const newest = (): Point | undefined => {
    const point = props.usage?.newest(props.pod.metadata.name ?? "");
    return point && now() / 1000 - point.time < FRESH ? point : undefined;
  };
  return (
    <tr data-pod={props.pod.metadata.name}>
      <td class="left pv-name-cell">
        <Link to={{ page: "pod", namespace: props.pod.metadata.namespace ?? "", name: props.pod.metadata.name ?? "" }}>
          <Icon kind="vm" /><span class="pv-name" title={props.pod.metadata.name}>{props.pod.metadata.name}</span>
        </Link>
      </td>
      <Show when={props.namespaces}>
        <td class="left pv-namespace-cell"><Link class="pv-name" to={{ page: "namespace", name: props.pod.metadata.namespace ?? "" }}>{props.pod.metadata.namespace}</Link></td>
      </Show>
      <td class="left"><Badge health={podHealth(props.pod)} text={podStatus(props.pod)} /></td>
      <Show when={props.usage} fallback={<><td class="left pv-number">{size().vcpus} vCPU</td><td class="left pv-number">{bytes(size().memory)}</td></>}>
        <td class="left"><Amount used={newest()?.vmCpu ?? newest()?.cpu} size={size().vcpus} format={cpus} text={`${size().vcpus} vCPU`} /></td>
        <td class="left"><Amount used={newest()?.vmMemory ?? newest()?.memory} size={size().memory} format={bytes} text={bytes(size().memory)} /></td>
      </Show>
      <td class="left pv-number">{props.pod.status?.podIP ?? "–"}</td>
      <td class="left">{props.pod.spec?.nodeName ?? "–"}</td>
      <td class="right pv-number">{restarts(props.pod)}</td>
      <td class="right pv-number">{age(props.pod.metadata.creationTimestamp, now())}</td>
    </tr>
  );
}

/** "0.02 CPU / 1 vCPU" above a thin bar; the size alone while nothing is measured. */
function Amount(props: { used: number | undefined; size: number; format: (value: number | undefined) => string; text: string }) {
  return (
    <div class="pv-amount">
      <span class="pv-number"><Show when={props.used !== undefined}>{props.format(props.used)} <span class="pv-quiet">of </span></Show><span class="pv-quiet">{props.text}</span></span>
      <div class="pv-bar pv-bar-thin"><div class="pv-bar-used" style={{ width: `${percent(props.used ?? 0, props.size) ?? 0}%` }} /></div>
    </div>
  );
}
