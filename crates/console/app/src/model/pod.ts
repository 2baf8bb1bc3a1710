// What a Pod is as a VM: its state in a word, its size.
import { quantity } from "./format";
import type { Condition, Container, Pod, Resources } from "./types";

export type Health = "success" | "warning" | "danger" | "neutral";

/** The word that kubectl prints as STATUS. */
export function podStatus(pod: Pod): string {
  if (pod.metadata.deletionTimestamp) return "Terminating";
  const init = initStatus(pod);
  if (init) return init;
  for (const status of pod.status?.containerStatuses ?? []) {
    const waiting = status.state?.waiting?.reason;
    if (waiting && !isBeginning(waiting)) return waiting;
    const ended = status.state?.terminated;
    if (ended && pod.status?.phase !== "Succeeded") return ended.reason ?? `ExitCode:${ended.exitCode ?? 0}`;
  }
  if (pod.status?.phase === "Pending" && pod.spec?.nodeName) return "ContainerCreating";
  if (pod.status?.phase === "Succeeded") return "Completed";
  return pod.status?.reason ?? pod.status?.phase ?? "Unknown";
}

/** "Init:1/2" or what keeps an init container; undefined when all are done, sidecars being done once started. */
function initStatus(pod: Pod): string | undefined {
  const containers = pod.spec?.initContainers ?? [];
  const statuses = pod.status?.initContainerStatuses ?? [];
  for (const [index, container] of containers.entries()) {
    const status = statuses.find((status) => status.name === container.name);
    if (!status) return undefined;
    const { terminated, waiting } = status.state ?? {};
    if (terminated && (terminated.exitCode ?? 0) === 0) continue;
    if (isSidecar(container) && status.started) continue;
    if (terminated) return `Init:${terminated.reason ?? `ExitCode:${terminated.exitCode}`}`;
    if (waiting?.reason && !isBeginning(waiting.reason)) return `Init:${waiting.reason}`;
    return `Init:${index}/${containers.length}`;
  }
  return undefined;
}

function isBeginning(reason: string): boolean {
  return reason === "ContainerCreating" || reason === "PodInitializing";
}

/** The colour of that word. */
export function podHealth(pod: Pod): Health {
  const word = podStatus(pod);
  if (word === "Running") return isReady(pod) ? "success" : "warning";
  if (word === "Completed" || word === "Terminating") return "neutral";
  if (word === "Pending" || word === "ContainerCreating" || /^Init:\d/.test(word)) return "warning";
  return "danger";
}

/** What keeps a Pod from running, in the words of whoever found out. */
export function trouble(pod: Pod): string | undefined {
  const unplaced = condition(pod.status?.conditions, "PodScheduled");
  if (unplaced?.status === "False" && unplaced.message) return unplaced.message;
  for (const status of [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])]) {
    const { waiting, terminated } = status.state ?? {};
    if (waiting?.message && !isBeginning(waiting.reason ?? "")) return `${status.name}: ${waiting.message}`;
    if (terminated?.message && terminated.exitCode) return `${status.name}: ${terminated.message}`;
  }
  return pod.status?.phase === "Failed" ? pod.status.message : undefined;
}

export function condition(conditions: Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

export function isReady(pod: Pod): boolean {
  return condition(pod.status?.conditions, "Ready")?.status === "True";
}

export function restarts(pod: Pod): number {
  return (pod.status?.containerStatuses ?? []).reduce((sum, status) => sum + (status.restartCount ?? 0), 0);
}

/** How many Pods are in which state, the commonest first: "5 Running, 1 Pending". */
export function states(pods: Pod[]): string {
  const counts = new Map<string, number>();
  for (const pod of pods) counts.set(podStatus(pod), (counts.get(podStatus(pod)) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).map(([word, count]) => `${count} ${word}`).join(", ");
}

/** Size of a Pod VM; memory and reservations in bytes and CPUs. */
export interface VmSize {
  vcpus: number;
  memory: number;
  /** The part of the memory that the guest itself needs. */
  guest: number;
  cpuLimit?: number;
  cpuReserved?: number;
  memoryReserved?: number;
}

const MIB = 2 ** 20;
const DEFAULT_MEMORY = 512 * MIB;
const GUEST = 64 * MIB;
const LEAST_MEMORY = 96 * MIB;

/**
 * The size that a host gives the VM: limits give vCPUs (rounded up) and memory, requests give reservations;
 * a Pod that says nothing gets one vCPU and 512 MiB. The same rule as the host agent's.
 */
export function vmSize(pod: Pod): VmSize {
  const cpuLimit = sum(pod, true, (resources) => quantity(resources?.limits?.["cpu"]));
  const memoryLimit = sum(pod, true, (resources) => quantity(resources?.limits?.["memory"]));
  const request = (name: string) => (resources: Resources | undefined) =>
    quantity(resources?.requests?.[name] ?? resources?.limits?.[name]);
  const cpuReserved = sum(pod, false, request("cpu"));
  const memoryReserved = sum(pod, false, request("memory"));
  const whole = (bytes: number) => Math.ceil(bytes / MIB) * MIB + GUEST;
  const memory =
    memoryLimit !== undefined ? whole(memoryLimit)
    : memoryReserved !== undefined ? Math.max(DEFAULT_MEMORY, whole(memoryReserved))
    : DEFAULT_MEMORY;
  return {
    vcpus: Math.min(64, Math.max(1, Math.ceil(cpuLimit ?? cpuReserved ?? 1))),
    memory: Math.max(LEAST_MEMORY, memory),
    guest: memoryLimit !== undefined ? GUEST : 0,
    cpuLimit,
    cpuReserved,
    memoryReserved,
  };
}

/** A Pod's total of one resource (KEP-753). With `all`, one container that names none makes the Pod unlimited. */
function sum(pod: Pod, all: boolean, of: (resources: Resources | undefined) => number | undefined): number | undefined {
  const own = of(pod.spec?.resources);
  if (own !== undefined) return own;
  const values = (pod.spec?.containers ?? []).map((container) => of(container.resources));
  let named = values.some((value) => value !== undefined);
  if (all && values.some((value) => value === undefined)) return undefined;
  let sidecars = 0;
  let highest = 0;
  for (const container of pod.spec?.initContainers ?? []) {
    const value = of(container.resources);
    named ||= value !== undefined;
    if (isSidecar(container)) highest = Math.max(highest, (sidecars += value ?? 0));
    else highest = Math.max(highest, sidecars + (value ?? 0));
  }
  if (!named) return undefined;
  return Math.max(highest, sidecars + values.reduce<number>((total, value) => total + (value ?? 0), 0));
}

export function isSidecar(container: Container): boolean {
  return container.restartPolicy === "Always";
}
