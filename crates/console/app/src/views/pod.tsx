// A Pod VM: what it is, how it does, what it says.
import { For, Match, Show, Switch } from "solid-js";
import { follow, type Usage } from "../api/metrics";
import { now } from "../clock";
import type { Inventory } from "../inventory";
import { age, bytes, cpus } from "../model/format";
import { isSidecar, podHealth, podStatus, restarts, trouble, vmSize } from "../model/pod";
import type { Container, ContainerStatus, Pod } from "../model/types";
import { tabOf, type Place } from "../router";
import { UsageCharts } from "./charts";
import { Events } from "./events";
import { Logs } from "./logs";
import { Badge, Card, Empty, Facts, Head, Link, Problem, Tabs } from "./parts";
import { TerminalTab } from "./terminal";
import { Yaml } from "./yaml";

const TABS = ["Summary", "Monitor", "Events", "Logs", "Terminal", "YAML"] as const;

export function PodPage(props: { inventory: Inventory; namespace: string; name: string }) {
  const tab = () => tabOf(TABS);
  const usage = follow(props.namespace);
  const pod = () => props.inventory.pods(props.namespace).find((pod) => pod.metadata.name === props.name);
  const parents: [string, Place][] = [["Supervisor", { page: "supervisor" }], [props.namespace, { page: "namespace", name: props.namespace }]];
  return (
    <Show when={pod()} fallback={
      <>
        <Head kind="vm" title={props.name} parents={parents} state="Not there" />
        <div id="pod-gone"><Empty title="This Pod VM is not there" hint={<>It was deleted, or never was. See <Link to={{ page: "namespace", name: props.namespace }}>{props.namespace}</Link>.</>} /></div>
      </>
    }>
      {(pod) => (
        <>
          <Head kind="vm" title={props.name} parents={parents} health={podHealth(pod())} state={podStatus(pod())} />
          <Tabs names={TABS} chosen={tab()} />
          <Switch>
            <Match when={tab() === "Summary"}><Summary pod={pod()} usage={usage} hosts={props.inventory.everything() === true} /></Match>
            <Match when={tab() === "Monitor"}><UsageCharts id="usage" points={usage.of(props.name)} problem={usage.problem()} /></Match>
            <Match when={tab() === "Events"}><Events namespace={props.namespace} pod={props.name} /></Match>
            <Match when={tab() === "Logs"}><Logs pod={pod()} /></Match>
            <Match when={tab() === "Terminal"}><TerminalTab pod={pod()} /></Match>
            <Match when={tab() === "YAML"}><Yaml object={pod()} /></Match>
          </Switch>
        </>
      )}
    </Show>
  );
}

function Summary(props: { pod: Pod; usage: Usage; hosts: boolean }) {
  const owner = () => props.pod.metadata.ownerReferences?.find((owner) => owner.controller);
  const size = () => vmSize(props.pod);
  const reserved = () => [size().cpuReserved && cpus(size().cpuReserved), size().memoryReserved && bytes(size().memoryReserved)].filter(Boolean).join(", ");
  return (
    <>
      <Problem text={trouble(props.pod)} warning />
      <div class="pv-cards pv-cards-pod">
        <Card title="Pod">
          <Facts rows={[
            ["Phase", () => <span id="phase">{props.pod.status?.phase ?? "–"}</span>],
            ["Host", () => <span id="host"><Show when={props.pod.spec?.nodeName} fallback="not placed yet">
              {(name) => <Show when={props.hosts} fallback={name()}><Link to={{ page: "host", name: name() }}>{name()}</Link></Show>}
            </Show></span>],
            ["Address", () => <span id="pod-ip" class="pv-number">{props.pod.status?.podIP ?? "–"}</span>],
            ["Namespace", () => <Link to={{ page: "namespace", name: props.pod.metadata.namespace ?? "" }}>{props.pod.metadata.namespace}</Link>],
            ["Controlled by", () => (owner() ? `${owner()!.kind} ${owner()!.name}` : "nobody")],
            ["Restarts", () => <>{restarts(props.pod)}</>],
            ["Age", () => age(props.pod.metadata.creationTimestamp, now())],
          ]} />
        </Card>
        <Card title="Virtual machine">
          <Facts rows={[
            ["vCPU", () => <span id="vcpus">{size().vcpus}</span>],
            ["Memory", () => <span id="memory">{bytes(size().memory)}<Show when={size().guest}> <span class="pv-quiet">({bytes(size().guest)} for the guest itself)</span></Show></span>],
            ["CPU limit", () => (size().cpuLimit === undefined ? "none" : cpus(size().cpuLimit))],
            ["Reserved", () => reserved() || "nothing"],
            ["Quality of service", () => props.pod.status?.qosClass ?? "–"],
            ["Service account", () => props.pod.spec?.serviceAccountName ?? "–"],
            ["Restart policy", () => props.pod.spec?.restartPolicy ?? "–"],
          ]} />
        </Card>
        <Card title="Usage" class="pv-card-charts"><UsageCharts id="small" points={props.usage.of(props.pod.metadata.name ?? "")} problem={props.usage.problem()} small /></Card>
      </div>
      <h2 class="pv-section">Containers</h2>
      <Containers pod={props.pod} />
      <Labels labels={props.pod.metadata.labels ?? {}} />
    </>
  );
}

function Containers(props: { pod: Pod }) {
  const all = (): [Container, string][] => [
    ...(props.pod.spec?.initContainers ?? []).map((it): [Container, string] => [it, isSidecar(it) ? "sidecar" : "init"]),
    ...(props.pod.spec?.containers ?? []).map((it): [Container, string] => [it, ""]),
  ];
  const statusOf = (name: string) =>
    [...(props.pod.status?.containerStatuses ?? []), ...(props.pod.status?.initContainerStatuses ?? [])].find((status) => status.name === name);
  return (
    <div class="pv-scroll"><table class="table table-compact pv-table" id="containers">
      <thead><tr><th class="left">Container</th><th class="left">State</th><th class="left">Image</th><th class="left">Ports</th><th class="left">Limits</th><th class="right">Restarts</th></tr></thead>
      <tbody>
        <For each={all()}>{([container, role]) => {
          const status = () => statusOf(container.name);
          return (
            <tr data-container={container.name}>
              <td class="left">{container.name} <Show when={role}><span class="pv-quiet">{role}</span></Show></td>
              <td class="left"><Badge health={containerHealth(status(), role)} text={stateWord(status(), role)} /> <span class="pv-quiet">{stateDetail(status())}</span></td>
              <td class="left pv-message">{container.image}</td>
              <td class="left pv-number">{container.ports?.map((port) => `${port.containerPort}/${port.protocol ?? "TCP"}`).join(", ") || "–"}</td>
              <td class="left pv-number">{limits(container)}</td>
              <td class="right pv-number">{status()?.restartCount ?? 0}</td>
            </tr>
          );
        }}</For>
      </tbody>
    </table></div>
  );
}

function limits(container: Container): string {
  const { cpu, memory } = container.resources?.limits ?? {};
  return [cpu && `${cpu} CPU`, memory].filter(Boolean).join(", ") || "–";
}

function Labels(props: { labels: Record<string, string> }) {
  return (
    <Show when={Object.keys(props.labels).length}>
      <h2 class="pv-section">Labels</h2>
      <div class="pv-labels"><For each={Object.entries(props.labels)}>{([name, value]) => <span class="pv-label"><span class="pv-quiet">{name}</span> {value}</span>}</For></div>
    </Show>
  );
}

function containerHealth(status: ContainerStatus | undefined, role: string) {
  if (status?.state?.running) return status.ready || role ? "success" : "warning";
  if (status?.state?.terminated) return status.state.terminated.exitCode ? "danger" : "neutral";
  const reason = status?.state?.waiting?.reason;
  return reason && reason !== "ContainerCreating" && reason !== "PodInitializing" ? "danger" : "warning";
}

function stateWord(status: ContainerStatus | undefined, role: string): string {
  const state = status?.state;
  if (state?.running) return status?.ready || role ? "Running" : "Not ready";
  if (state?.terminated) return state.terminated.reason ?? "Ended";
  return state?.waiting?.reason ?? "Waiting";
}

function stateDetail(status: ContainerStatus | undefined): string {
  const state = status?.state;
  if (state?.running) return `for ${age(state.running.startedAt, now())}`;
  return state?.terminated ? `exit code ${state.terminated.exitCode ?? 0}` : "";
}
