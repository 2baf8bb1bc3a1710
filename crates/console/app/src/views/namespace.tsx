// A namespace: status, permissions, capacity and usage; its VMs, workloads, services and events.
import { For, Match, Show, Switch, createResource } from "solid-js";
import { may, session } from "../api/client";
import { follow } from "../api/metrics";
import { sorted, watch, watchOne, type Live } from "../api/watch";
import { now } from "../clock";
import type { Inventory } from "../inventory";
import { age, bytes, count, cpus, quantity } from "../model/format";
import { FRESH } from "../model/metrics";
import { podStatus, states } from "../model/pod";
import type { Deployment, Namespace, Quota, Service } from "../model/types";
import { tabOf, type Place } from "../router";
import { UsageCharts } from "./charts";
import { Events } from "./events";
import { Card, Empty, Facts, Head, Meter, Tabs } from "./parts";
import { PodTable } from "./pods";

const TABS = ["Summary", "Monitor", "Workloads", "Network", "Events"] as const;
const PARENTS: [string, Place][] = [["Supervisor", { page: "supervisor" }]];

export function NamespacePage(props: { inventory: Inventory; name: string }) {
  const there = () => props.inventory.namespaces().includes(props.name);
  return (
    <Show when={there()} fallback={
      <>
        <Head kind="namespace" title={props.name} parents={PARENTS} state="Not there" />
        <div id="namespace-gone"><Empty title="This namespace is not there" hint="It was deleted, never was, or is not open to you." /></div>
      </>
    }>
      <Page inventory={props.inventory} name={props.name} />
    </Show>
  );
}

function Page(props: { inventory: Inventory; name: string }) {
  const base = `/api/v1/namespaces/${props.name}`;
  const namespace = watchOne<Namespace>(base);
  const quotas = watch<Quota>(`${base}/resourcequotas`);
  const services = watch<Service>(`${base}/services`);
  const deployments = watch<Deployment>(`/apis/apps/v1/namespaces/${props.name}/deployments`);
  const usage = follow(props.name);
  const tab = () => tabOf(TABS);
  const supervisor = () => props.inventory.supervisorNamespace(props.name);
  const pods = () => props.inventory.pods(props.name);
  const phase = () => supervisor()?.status?.phase ?? namespace()?.status?.phase;
  const description = () => supervisor()?.spec?.description ?? namespace()?.metadata.annotations?.["podvisor.io/description"];
  const external = () =>
    sorted(services).flatMap((service) =>
      (service.status?.loadBalancer?.ingress ?? []).flatMap((ingress) => (ingress.ip ? [`${service.metadata.name}: ${ingress.ip}`] : [])),
    );
  const ready = () => sorted(deployments).filter((it) => (it.status?.readyReplicas ?? 0) >= (it.spec?.replicas ?? 1)).length;
  return (
    <>
      <Head kind="namespace" title={props.name} parents={PARENTS}
        health={phase() === "Active" ? "success" : "warning"} state={phase()} />
      <Tabs names={TABS} chosen={tab()} />
      <Switch>
        <Match when={tab() === "Summary"}>
          <div class="pv-cards">
            <Card title="Status">
              <Facts rows={[
                ["State", () => <span id="namespace-state">{phase() ?? "–"}</span>],
                ["Pod VMs", () => <span id="pod-phases">{states(pods()) || "none"}</span>],
                ["Deployments", () => (sorted(deployments).length ? `${ready()} of ${sorted(deployments).length} ready` : "none")],
                ["Services", () => <>{sorted(services).length || "none"}</>],
                ["Published", () => <span id="external">{external().join(", ") || "nothing"}</span>],
                ["Age", () => age(namespace()?.metadata.creationTimestamp, now())],
                ["CLI tools", () => <a href="/" target="_blank" rel="noreferrer">Open</a>],
              ]} />
              <Show when={description()}>{(text) => <p class="pv-note">{text()}</p>}</Show>
            </Card>
            <Card title="Permissions"><Permissions inventory={props.inventory} name={props.name} /></Card>
            <Card title="Capacity and usage">
              <Capacity quotas={quotas} cpu={fresh(usage.whole().at(-1)?.time) ? usage.whole().at(-1)?.vmCpu : undefined}
                memory={fresh(usage.whole().at(-1)?.time) ? usage.whole().at(-1)?.vmMemory : undefined} />
            </Card>
          </div>
          <h2 class="pv-section">Pod VMs <span class="pv-count">{pods().length}</span></h2>
          <PodTable pods={pods()} usage={usage} hint={`kubectl apply -n ${props.name} -f your.yaml makes some.`} />
          <Show when={usage.whole().length}>
            <h2 class="pv-section">Usage</h2>
            <UsageCharts id="summary" points={usage.whole()} problem={usage.problem()} low />
          </Show>
        </Match>
        <Match when={tab() === "Monitor"}>
          <UsageCharts id="usage" points={usage.whole()} problem={usage.problem()} />
          <h2 class="pv-section">Pod VMs <span class="pv-count">{pods().filter((pod) => podStatus(pod) === "Running").length} running</span></h2>
          <PodTable pods={pods()} usage={usage} />
        </Match>
        <Match when={tab() === "Workloads"}><Deployments live={deployments} /></Match>
        <Match when={tab() === "Network"}><Services live={services} /></Match>
        <Match when={tab() === "Events"}><Events namespace={props.name} /></Match>
      </Switch>
    </>
  );
}

function fresh(time: number | undefined): boolean {
  return time !== undefined && now() / 1000 - time < FRESH;
}

const ROLES: Record<string, string> = { view: "Can view", edit: "Can edit", owner: "Owner" };

/** Administrators see all grants; others see what they may do themselves. */
function Permissions(props: { inventory: Inventory; name: string }) {
  const grants = () => props.inventory.supervisorNamespace(props.name)?.spec?.permissions;
  const [own] = createResource(
    () => props.inventory.everything() === false && props.name,
    async (namespace) => {
      if (await may({ verb: "create", group: "rbac.authorization.k8s.io", resource: "rolebindings", namespace })) return "owner";
      return (await may({ verb: "create", resource: "pods", namespace })) ? "edit" : "view";
    },
  );
  const line = (subject: string, role: string, kind?: string) => (
    <li data-subject={subject}>
      <span class="pv-subject" title={subject}>{subject}</span>
      <Show when={kind === "Group"}><span class="pv-quiet">group</span></Show>
      <span class="label pv-badge">{ROLES[role] ?? role}</span>
    </li>
  );
  return (
    <ul class="pv-grants" id="permissions">
      <Show when={props.inventory.everything()} fallback={<Show when={own()}>{(role) => line(session()?.username ?? "", role())}</Show>}>
        <For each={grants()} fallback={<li class="pv-quiet">Nobody but administrators.</li>}>
          {(grant) => line(grant.subject, grant.role, grant.kind)}
        </For>
      </Show>
    </ul>
  );
}

const METERS: [string, string[], (value: number | undefined) => string][] = [
  ["CPU", ["limits.cpu", "requests.cpu"], cpus],
  ["Memory", ["limits.memory", "requests.memory"], bytes],
  ["Storage", ["requests.storage"], bytes],
  ["Pods", ["pods", "count/pods"], count],
];

function Capacity(props: { quotas: Live<Quota>; cpu?: number; memory?: number }) {
  const amounts = (name: string, keys: string[]) => {
    for (const key of keys) {
      const quota = sorted(props.quotas).find((quota) => quota.status?.hard?.[key] !== undefined);
      if (!quota) continue;
      const used = { CPU: props.cpu, Memory: props.memory }[name];
      return { promised: quantity(quota.status?.used?.[key]), limit: quantity(quota.status?.hard?.[key]), used };
    }
    return undefined;
  };
  const limited = () => METERS.some(([name, keys]) => amounts(name, keys));
  return (
    <Show when={limited()} fallback={<Show when={props.quotas.ready}><p class="pv-quiet">No limits are set.</p></Show>}>
      <For each={METERS}>{([name, keys, format]) => (
        <Show when={amounts(name, keys)}>{(it) => <Meter name={name} format={format} promised={it().promised} limit={it().limit} used={it().used} />}</Show>
      )}</For>
    </Show>
  );
}

function Deployments(props: { live: Live<Deployment> }) {
  return (
    <Show when={sorted(props.live).length} fallback={<Empty title="No Deployments" />}>
      <div class="pv-scroll"><table class="table table-compact pv-table" id="deployments">
        <thead><tr><th class="left">Deployment</th><th class="left">Image</th><th class="right">Ready</th><th class="right">Up to date</th><th class="right">Available</th><th class="right">Age</th></tr></thead>
        <tbody>
          <For each={sorted(props.live)}>{(it) => (
            <tr>
              <td class="left">{it.metadata.name}</td>
              <td class="left pv-message">{it.spec?.template?.spec?.containers?.map((container) => container.image).join(", ")}</td>
              <td class="right pv-number">{it.status?.readyReplicas ?? 0} of {it.spec?.replicas ?? 0}</td>
              <td class="right pv-number">{it.status?.updatedReplicas ?? 0}</td>
              <td class="right pv-number">{it.status?.availableReplicas ?? 0}</td>
              <td class="right pv-number">{age(it.metadata.creationTimestamp, now())}</td>
            </tr>
          )}</For>
        </tbody>
      </table></div>
    </Show>
  );
}

function Services(props: { live: Live<Service> }) {
  return (
    <Show when={sorted(props.live).length} fallback={<Empty title="No Services" />}>
      <div class="pv-scroll"><table class="table table-compact pv-table" id="services">
        <thead><tr><th class="left">Service</th><th class="left">Type</th><th class="left">Cluster address</th><th class="left">External address</th><th class="left">Ports</th><th class="right">Age</th></tr></thead>
        <tbody>
          <For each={sorted(props.live)}>{(it) => (
            <tr>
              <td class="left">{it.metadata.name}</td><td class="left">{it.spec?.type}</td>
              <td class="left pv-number">{it.spec?.clusterIP}</td>
              <td class="left pv-number">{it.status?.loadBalancer?.ingress?.map((ingress) => ingress.ip).join(", ") || "–"}</td>
              <td class="left pv-number">{it.spec?.ports?.map((port) => `${port.port}/${port.protocol ?? "TCP"}`).join(", ")}</td>
              <td class="right pv-number">{age(it.metadata.creationTimestamp, now())}</td>
            </tr>
          )}</For>
        </tbody>
      </table></div>
    </Show>
  );
}
