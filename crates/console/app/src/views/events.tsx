// Events of a namespace or of one object, newest first, live.
import { For } from "solid-js";
import { watch } from "../api/watch";
import { now } from "../clock";
import { age } from "../model/format";
import type { KubeEvent } from "../model/types";
import { Problem } from "./parts";

/** How many are shown. */
const SHOWN = 200;

export function Events(props: { namespace: string; pod?: string }) {
  const selector = props.pod ? `?fieldSelector=${encodeURIComponent(`involvedObject.name=${props.pod}`)}` : "";
  const live = watch<KubeEvent>(`/api/v1/namespaces/${props.namespace}/events${selector}`);
  const time = (event: KubeEvent) => event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp ?? "";
  const newest = () => Object.values(live.items).sort((a, b) => time(b).localeCompare(time(a))).slice(0, SHOWN);
  return (
    <>
      <Problem text={live.error} />
      <table class="table table-compact pv-table" id="events">
        <thead><tr><th class="left">Age</th><th class="left">Type</th><th class="left">Reason</th><th class="left">Object</th><th class="left">Message</th></tr></thead>
        <tbody>
          <For each={newest()} fallback={<tr><td colSpan={5} class="left pv-quiet">No events.</td></tr>}>{(event) => (
            <tr classList={{ "pv-warning-row": event.type === "Warning" }}>
              <td class="left">{age(time(event), now())}</td>
              <td class="left">{event.type}</td>
              <td class="left">{event.reason}{(event.count ?? 1) > 1 ? ` ×${event.count}` : ""}</td>
              <td class="left">{event.involvedObject?.kind}/{event.involvedObject?.name}</td>
              <td class="left pv-message">{event.message}</td>
            </tr>
          )}</For>
        </tbody>
      </table>
    </>
  );
}
