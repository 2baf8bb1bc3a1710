// CPU and memory of a Pod VM, drawn as they come: the API server pushes a measurement every second or so.
import uPlot from "uplot";
import { Show, createEffect, createSignal, onCleanup, onMount } from "solid-js";
import { lines, request } from "../api/client";
import { bytes, cpus, quantity } from "../model/format";
import type { PodMetrics } from "../model/types";
import { theme } from "../theme";
import { Problem } from "./parts";

/** Points kept: ten minutes at one a second. */
const KEPT = 600;

export function UsageCharts(props: { namespace: string; pod: string; small?: boolean }) {
  const [points, setPoints] = createSignal<{ time: number; cpu: number; memory: number }[]>([]);
  const [problem, setProblem] = createSignal<string>();
  const abort = new AbortController();
  onCleanup(() => abort.abort());

  const follow = async () => {
    const path = `/apis/metrics.k8s.io/v1beta1/namespaces/${props.namespace}/pods`;
    const query = `watch=1&fieldSelector=${encodeURIComponent(`metadata.name=${props.pod}`)}`;
    try {
      for await (const line of lines(await request(`${path}?${query}`, abort.signal))) {
        if (!line) continue;
        const { object } = JSON.parse(line) as { object: PodMetrics };
        const sum = (name: string) =>
          (object.containers ?? []).reduce((total, container) => total + (quantity(container.usage?.[name]) ?? 0), 0);
        const time = Date.parse(object.timestamp ?? "") / 1000 || Date.now() / 1000;
        setPoints((before) => [...before.slice(-(KEPT - 1)), { time, cpu: sum("cpu"), memory: sum("memory") }]);
      }
    } catch (error) {
      if (!abort.signal.aborted) setProblem(error instanceof Error ? error.message : String(error));
    }
  };
  onMount(() => void follow());

  const times = () => points().map((point) => point.time);
  const last = () => points().at(-1);
  return (
    <>
      <Problem text={problem()} />
      <Show when={!problem()}>
        <div class="pv-charts" classList={{ "pv-small": props.small }}>
          <Chart title={`CPU: ${cpus(last()?.cpu)}`} times={times()} values={points().map((point) => point.cpu)} format={cpus} />
          <Chart title={`Memory: ${bytes(last()?.memory)}`} times={times()} values={points().map((point) => point.memory)} format={bytes} />
        </div>
      </Show>
    </>
  );
}

function Chart(props: { title: string; times: number[]; values: number[]; format: (value: number) => string }) {
  let host!: HTMLDivElement;
  let plot: uPlot | undefined;
  const draw = () => {
    plot?.destroy();
    const style = getComputedStyle(host);
    const ink = style.getPropertyValue("--cds-alias-typography-color-400").trim() || "#666";
    const line = style.getPropertyValue("--cds-alias-status-info").trim() || "#0079ad";
    const axis = { stroke: ink, grid: { stroke: "rgba(128,128,128,0.2)" }, ticks: { stroke: "rgba(128,128,128,0.2)" } };
    plot = new uPlot(
      {
        width: host.clientWidth || 320,
        height: host.clientHeight || 160,
        legend: { show: false },
        scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.2 : 1] } },
        axes: [axis, { ...axis, size: 74, values: (_, ticks) => ticks.map((tick) => props.format(tick)) }],
        series: [{}, { stroke: line, fill: `color-mix(in srgb, ${line} 15%, transparent)`, width: 2 }],
      },
      [props.times, props.values],
      host,
    );
  };
  onMount(() => {
    draw();
    const observer = new ResizeObserver(() => plot?.setSize({ width: host.clientWidth, height: host.clientHeight }));
    observer.observe(host);
    onCleanup(() => observer.disconnect());
  });
  createEffect(() => {
    theme();
    if (plot) draw();
  });
  createEffect(() => plot?.setData([props.times, props.values]));
  onCleanup(() => plot?.destroy());
  return (
    <figure class="pv-chart">
      <figcaption>{props.title}</figcaption>
      <div class="pv-plot" ref={host} />
    </figure>
  );
}
