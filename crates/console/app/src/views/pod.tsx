// A Pod VM: what it is, how it does, what it says.
import { For, Match, Show, Switch, createSignal } from "solid-js";
import { now } from "../clock";
import type { Inventory } from "../inventory";
import { age, bytes } from "../model/format";
import { podHealth, podStatus, restarts, vmSize } from "../model/pod";
import type { ContainerStatus, Pod } from "../model/types";
import { toYaml } from "../model/yaml";
import { Events } from "./events";
import { Logs } from "./logs";
import { Badge, Card, Facts, Link, Tabs } from "./parts";
import { UsageCharts } from "./charts";

const TABS = ["Summary", "Performance", "Events", "Logs", "YAML"] as const;

export function PodPage(props: { inventory: Inventory; namespace: string; name: string }) {
  const [tab, setTab] = createSignal<(typeof TABS)[number]>("Summary");
  const pod = () => props.inventory.pods(props.namespace).find((pod) => pod.metadata.name === props.name);
  return (
    <Show when={pod()} fallback={<p class="pv-quiet" id="pod-gone">Pod {props.namespace}/{props.name} is not there.</p>}>
      {(pod) => (
        <>
          <h1 class="pv-title">{props.name} <Badge health={podHealth(pod())} text={podStatus(pod())} /></h1>
          <Tabs names={TABS} chosen={tab()} choose={setTab} />
          <Switch>
            <Match when={tab() === "Summary"}><Summary pod={pod()} /></Match>
            <Match when={tab() === "Performance"}><UsageCharts namespace={props.namespace} pod={props.name} /></Match>
            <Match when={tab() === "Events"}><Events namespace={props.namespace} pod={props.name} /></Match>
            <Match when={tab() === "Logs"}>
              <Logs namespace={props.namespace} pod={props.name} containers={(pod().spec?.containers ?? []).map((c) => c.name)} />
            </Match>
            <Match when={tab() === "YAML"}><pre class="pv-text" id="yaml">{toYaml(pod())}</pre></Match>
          </Switch>
        </>
      )}
    </Show>
  );
}

function Summary(props: { pod: Pod }) {
  const owner = () => props.pod.metadata.ownerReferences?.find((owner) => owner.controller);
  return (
    <>
      <div class="pv-cards">
        <Card title="Pod">
          <Facts rows={[
            ["Phase", <span id="phase">{props.pod.status?.phase ?? "–"}</span>],
            ["Namespace", <Link to={{ page: "namespace", name: props.pod.metadata.namespace ?? "" }}>{props.pod.metadata.namespace}</Link>],
            ["Controlled by", owner() ? `${owner()!.kind}/${owner()!.name}` : "nobody"],
            ["Age", age(props.pod.metadata.creationTimestamp, now())],
            ["Restarts", restarts(props.pod)],
          ]} />
        </Card>
        <Card title="Virtual machine">
          <Facts rows={[
            ["Host", props.pod.spec?.nodeName
              ? <Link to={{ page: "host", name: props.pod.spec.nodeName }}>{props.pod.spec.nodeName}</Link> : "not placed yet"],
            ["Address", <span id="pod-ip">{props.pod.status?.podIP ?? "–"}</span>],
            ["vCPU", vmSize(props.pod).vcpus],
            ["Memory", bytes(vmSize(props.pod).memory)],
            ["Quality of service", props.pod.status?.qosClass ?? "–"],
          ]} />
        </Card>
        <Card title="Live usage" class="pv-wide"><UsageCharts namespace={props.pod.metadata.namespace ?? ""} pod={props.pod.metadata.name ?? ""} small /></Card>
      </div>
      <h2>Containers</h2>
      <table class="table table-compact pv-table" id="containers">
        <thead><tr><th class="left">Container</th><th class="left">Image</th><th class="left">State</th><th>Ready</th><th>Restarts</th></tr></thead>
        <tbody>
          <For each={props.pod.spec?.containers}>{(container) => {
            const status = () => props.pod.status?.containerStatuses?.find((status) => status.name === container.name);
            return (
              <tr><td class="left">{container.name}</td><td class="left">{container.image}</td>
                <td class="left">{stateText(status())}</td><td>{status()?.ready ? "yes" : "no"}</td><td>{status()?.restartCount ?? 0}</td></tr>
            );
          }}</For>
        </tbody>
      </table>
    </>
  );
}

function stateText(status: ContainerStatus | undefined): string {
  const state = status?.state;
  if (state?.running) return `running for ${age(state.running.startedAt, now())}`;
  if (state?.terminated) return `${state.terminated.reason ?? "ended"} (exit code ${state.terminated.exitCode ?? 0})`;
  if (state?.waiting) return [state.waiting.reason, state.waiting.message].filter(Boolean).join(": ");
  return "–";
}
