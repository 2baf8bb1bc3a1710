// What a Pod is as a VM: its state in a word, its size.
import { quantity } from "./format";
import type { Pod } from "./types";

export type Health = "success" | "warning" | "danger" | "neutral";

/** The word that kubectl prints as STATUS. */
export function podStatus(pod: Pod): string {
  if (pod.metadata.deletionTimestamp) return "Terminating";
  for (const status of pod.status?.containerStatuses ?? []) {
    const waiting = status.state?.waiting?.reason;
    if (waiting && waiting !== "ContainerCreating") return waiting;
    const ended = status.state?.terminated;
    if (ended && pod.status?.phase !== "Succeeded") return ended.reason ?? `ExitCode:${ended.exitCode ?? 0}`;
  }
  if (pod.status?.phase === "Pending" && pod.spec?.nodeName) return "ContainerCreating";
  if (pod.status?.phase === "Succeeded") return "Completed";
  return pod.status?.reason ?? pod.status?.phase ?? "Unknown";
}

/** The colour of that word. */
export function podHealth(pod: Pod): Health {
  const word = podStatus(pod);
  if (word === "Running") return isReady(pod) ? "success" : "warning";
  if (word === "Completed" || word === "Terminating") return "neutral";
  if (word === "Pending" || word === "ContainerCreating") return "warning";
  return "danger";
}

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false;
}

export function restarts(pod: Pod): number {
  return (pod.status?.containerStatuses ?? []).reduce((sum, status) => sum + (status.restartCount ?? 0), 0);
}

/** A Pod VM's size follows its limits; without any it has one vCPU and 512 MiB. */
export function vmSize(pod: Pod): { vcpus: number; memory: number } {
  let cpu = 0;
  let memory = 0;
  for (const container of pod.spec?.containers ?? []) {
    cpu += quantity(container.resources?.limits?.["cpu"]) ?? 0;
    memory += quantity(container.resources?.limits?.["memory"]) ?? 0;
  }
  return { vcpus: Math.max(1, Math.ceil(cpu)), memory: memory || 512 * 2 ** 20 };
}
