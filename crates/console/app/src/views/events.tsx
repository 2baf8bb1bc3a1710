// Events of a namespace or of one object, newest first, live.
import { For, Show } from "solid-js";
import { watch } from "../api/watch";
import { now } from "../clock";
import { age } from "../model/format";
import type { KubeEvent } from "../model/types";
import { Badge, Empty, Problem } from "./parts";

/** How many are shown. */
const SHOWN = 200;

export function Events(props: { namespace: string; pod?: string }) {
  const selector = props.pod
    ? `?fieldSelector=${encodeURIComponent(`involvedObject.kind=Pod,involvedObject.name=${props.pod}`)}` : "";
  const live = watch<KubeEvent>(`/api/v1/namespaces/${props.namespace}/events${selector}`);
  const time = (event: KubeEvent) => event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp ?? "";
  const newest = () => Object.values(live.items).sort((a, b) => time(b).localeCompare(time(a))).slice(0, SHOWN);
  return (
    <>
      <Problem text={live.error} />
      <Show when={newest().length} fallback={<Show when={live.ready && !live.error}><Empty title="No events" hint="Events are kept for an hour." /></Show>}>
        <div class="pv-scroll"><table class="table table-compact pv-table" id="events">
          <thead><tr><th class="left">Age</th><th class="left">Type</th><th class="left">Reason</th><Show when={!props.pod}><th class="left">Object</th></Show><th class="left">Message</th></tr></thead>
          <tbody>
            <For each={newest()}>{(event) => (
              <tr data-reason={event.reason}>
                <td class="left pv-number">{age(time(event), now())}</td>
                <td class="left"><Badge health={event.type === "Warning" ? "warning" : "neutral"} text={event.type ?? "Normal"} /></td>
                <td class="left">{event.reason}{(event.count ?? 1) > 1 ? ` ×${event.count}` : ""}</td>
                <Show when={!props.pod}><td class="left pv-message">{event.involvedObject?.kind}/{event.involvedObject?.name}</td></Show>
                <td class="left pv-message">{event.message}</td>
              </tr>
            )}</For>
          </tbody>
        </table></div>
      </Show>
    </>
  );
}
