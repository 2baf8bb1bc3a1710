// Pods as a table of VMs.
import { For, Show } from "solid-js";
import { now } from "../clock";
import { age, bytes } from "../model/format";
import { podHealth, podStatus, restarts, vmSize } from "../model/pod";
import type { Pod } from "../model/types";
import { Badge, Link } from "./parts";

export function PodTable(props: { pods: Pod[]; namespaces?: boolean }) {
  return (
    <table class="table table-compact pv-table" id="pods">
      <thead>
        <tr>
          <th class="left">Pod VM</th>
          <Show when={props.namespaces}><th class="left">Namespace</th></Show>
          <th class="left">State</th><th class="left">Address</th><th class="left">Host</th>
          <th>vCPU</th><th>Memory</th><th>Restarts</th><th>Age</th>
        </tr>
      </thead>
      <tbody>
        <For each={props.pods} fallback={<tr><td colSpan={9} class="left pv-quiet">No Pods.</td></tr>}>{(pod) => (
          <tr data-pod={pod.metadata.name}>
            <td class="left">
              <Link to={{ page: "pod", namespace: pod.metadata.namespace ?? "", name: pod.metadata.name ?? "" }}>{pod.metadata.name}</Link>
            </td>
            <Show when={props.namespaces}><td class="left">{pod.metadata.namespace}</td></Show>
            <td class="left"><Badge health={podHealth(pod)} text={podStatus(pod)} /></td>
            <td class="left">{pod.status?.podIP ?? "–"}</td>
            <td class="left">{pod.spec?.nodeName ?? "–"}</td>
            <td>{vmSize(pod).vcpus}</td>
            <td>{bytes(vmSize(pod).memory)}</td>
            <td>{restarts(pod)}</td>
            <td>{age(pod.metadata.creationTimestamp, now())}</td>
          </tr>
        )}</For>
      </tbody>
    </table>
  );
}
