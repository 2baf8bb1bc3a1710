// A namespace: status, permissions, capacity and usage; its VMs, workloads, services and events.
import { For, Show, createSignal } from "solid-js";
import { watch, sorted } from "../api/watch";
import { now } from "../clock";
import type { Inventory } from "../inventory";
import { age, bytes, cpus, percent, quantity } from "../model/format";
import { podStatus } from "../model/pod";
import type { Deployment, Quota, Service } from "../model/types";
import { Events } from "./events";
import { Badge, Card, Facts, Meter, Tabs } from "./parts";
import { PodTable } from "./pods";

const TABS = ["Pod VMs", "Deployments", "Services", "Events"] as const;

export function NamespacePage(props: { inventory: Inventory; name: string }) {
  const [tab, setTab] = createSignal<(typeof TABS)[number]>("Pod VMs");
  const quotas = watch<Quota>(`/api/v1/namespaces/${props.name}/resourcequotas`);
  const supervisor = () => props.inventory.supervisorNamespace(props.name);
  const pods = () => props.inventory.pods(props.name);
  const phase = () => supervisor()?.status?.phase ?? "Active";
  const phases = () => {
    const counts = new Map<string, number>();
    for (const pod of pods()) counts.set(podStatus(pod), (counts.get(podStatus(pod)) ?? 0) + 1);
    return [...counts].map(([word, count]) => `${count} ${word}`).join(", ") || "none";
  };
  return (
    <>
      <h1 class="pv-title">{props.name}</h1>
      <div class="pv-cards">
        <Card title="Status">
          <Facts rows={[
            ["State", <Badge health={phase() === "Active" ? "success" : "warning"} text={phase()} />],
            ["Description", supervisor()?.spec?.description || "–"],
            ["Age", age(supervisor()?.metadata.creationTimestamp, now())],
            ["Pod VMs", <span id="pod-phases">{phases()}</span>],
          ]} />
        </Card>
        <Card title="Permissions">
          <Show when={props.inventory.everything()} fallback={<p class="pv-quiet">Shown to administrators.</p>}>
            <ul class="list-unstyled" id="permissions">
              <For each={supervisor()?.spec?.permissions} fallback={<li class="pv-quiet">Nobody but administrators.</li>}>{(grant) => (
                <li>{grant.subject} <span class="label">can {grant.role === "owner" ? "own" : grant.role}</span></li>
              )}</For>
            </ul>
          </Show>
        </Card>
        <Card title="Capacity and usage"><Usage quotas={sorted(quotas)} /></Card>
      </div>
      <Tabs names={TABS} chosen={tab()} choose={setTab} />
      <Show when={tab() === "Pod VMs"}><PodTable pods={pods()} /></Show>
      <Show when={tab() === "Deployments"}><Deployments namespace={props.name} /></Show>
      <Show when={tab() === "Services"}><Services namespace={props.name} /></Show>
      <Show when={tab() === "Events"}><Events namespace={props.name} /></Show>
    </>
  );
}

const METERS: [string, string[], (value: number | undefined) => string][] = [
  ["CPU", ["limits.cpu", "requests.cpu"], cpus],
  ["Memory", ["limits.memory", "requests.memory"], bytes],
  ["Storage", ["requests.storage"], bytes],
  ["Pods", ["pods", "count/pods"], (value) => String(value ?? "–")],
];

function Usage(props: { quotas: Quota[] }) {
  const meters = () => METERS.flatMap(([name, keys, format]) => {
    for (const quota of props.quotas) {
      const key = keys.find((key) => quota.status?.hard?.[key] !== undefined);
      if (!key) continue;
      const used = quantity(quota.status?.used?.[key]);
      const hard = quantity(quota.status?.hard?.[key]);
      return [{ name, used: format(used), limit: format(hard), percent: percent(used, hard) }];
    }
    return [];
  });
  return <For each={meters()} fallback={<p class="pv-quiet">No limits.</p>}>{(meter) => <Meter {...meter} />}</For>;
}

function Deployments(props: { namespace: string }) {
  const live = watch<Deployment>(`/apis/apps/v1/namespaces/${props.namespace}/deployments`);
  return (
    <table class="table table-compact pv-table">
      <thead><tr><th class="left">Deployment</th><th>Ready</th><th>Up to date</th><th>Age</th></tr></thead>
      <tbody>
        <For each={sorted(live)} fallback={<tr><td colSpan={4} class="left pv-quiet">No Deployments.</td></tr>}>{(it) => (
          <tr><td class="left">{it.metadata.name}</td><td>{it.status?.readyReplicas ?? 0}/{it.spec?.replicas ?? 0}</td>
            <td>{it.status?.updatedReplicas ?? 0}</td><td>{age(it.metadata.creationTimestamp, now())}</td></tr>
        )}</For>
      </tbody>
    </table>
  );
}

function Services(props: { namespace: string }) {
  const live = watch<Service>(`/api/v1/namespaces/${props.namespace}/services`);
  return (
    <table class="table table-compact pv-table">
      <thead><tr><th class="left">Service</th><th class="left">Type</th><th class="left">Cluster address</th><th class="left">External address</th><th class="left">Ports</th></tr></thead>
      <tbody>
        <For each={sorted(live)} fallback={<tr><td colSpan={5} class="left pv-quiet">No Services.</td></tr>}>{(it) => (
          <tr><td class="left">{it.metadata.name}</td><td class="left">{it.spec?.type}</td><td class="left">{it.spec?.clusterIP}</td>
            <td class="left">{it.status?.loadBalancer?.ingress?.map((ingress) => ingress.ip).join(", ") || "–"}</td>
            <td class="left">{it.spec?.ports?.map((port) => `${port.port}/${port.protocol ?? "TCP"}`).join(", ")}</td></tr>
        )}</For>
      </tbody>
    </table>
  );
}
