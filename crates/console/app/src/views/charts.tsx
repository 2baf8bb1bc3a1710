// CPU and memory over the last minutes, drawn as the measurements come.
import uPlot from "uplot";
import { Show, createEffect, createSignal, onCleanup, onMount } from "solid-js";
import { bytes, cpus } from "../model/format";
import type { Point } from "../model/metrics";
import { theme } from "../theme";
import { Empty, Problem } from "./parts";

/** The time that is shown at least, in seconds. */
const SPAN = 60;
const MIB = 2 ** 20;
const MEMORY_STEPS = Array.from({ length: 24 }, (_, power) => 2 ** power * MIB);

export function UsageCharts(props: { points: Point[]; problem: string | undefined; small?: boolean; low?: boolean; id: string }) {
  // The host knows what the whole VM takes; where VMs are simulated there are containers only.
  const vm = () => props.points.some((point) => point.vmCpu !== undefined);
  return (
    <>
      <Problem text={props.problem} />
      <Show when={props.points.length} fallback={<Show when={!props.problem}><Empty title="Waiting for the first measurement" hint="A running Pod VM is measured once a second." /></Show>}>
        <div class="pv-charts" classList={{ "pv-small": props.small, "pv-low": props.low }}>
          <Chart id={`${props.id}-cpu`} title="CPU" points={props.points} format={cpus} least={0.05}
            value={(point) => point.cpu} whole={vm() ? (point) => point.vmCpu ?? point.cpu : undefined} />
          <Chart id={`${props.id}-memory`} title="Memory" points={props.points} format={bytes} least={16 * MIB} steps={MEMORY_STEPS}
            value={(point) => point.memory} whole={vm() ? (point) => point.vmMemory ?? point.memory : undefined} />
        </div>
      </Show>
    </>
  );
}

interface ChartProps {
  id: string;
  title: string;
  points: Point[];
  format: (value: number | undefined) => string;
  value: (point: Point) => number;
  whole?: (point: Point) => number;
  /** The top of the scale is at least this. */
  least: number;
  steps?: number[];
}

function Chart(props: ChartProps) {
  let host!: HTMLDivElement;
  let plot: uPlot | undefined;
  const [under, setUnder] = createSignal<number | null>(null);
  const data = (): uPlot.AlignedData => {
    const times = props.points.map((point) => point.time);
    const values = props.points.map(props.value);
    return props.whole ? [times, values, props.points.map(props.whole)] : [times, values];
  };
  const shown = () => props.points[under() ?? props.points.length - 1] ?? props.points.at(-1);

  const draw = () => {
    plot?.destroy();
    const style = getComputedStyle(host);
    const colour = (name: string, otherwise: string) => style.getPropertyValue(name).trim() || otherwise;
    const ink = colour("--pv-chart-ink", "#666");
    const font = `11px ${style.fontFamily}`;
    const grid = { stroke: colour("--pv-chart-grid", "#ddd"), width: 1 };
    const axis = { stroke: ink, font, grid, ticks: { show: false } };
    const line = (name: string, fill: boolean) => {
      const stroke = colour(name, "#0079ad");
      return { stroke, width: 1.75, points: { show: false }, fill: fill ? `color-mix(in srgb, ${stroke} 14%, transparent)` : undefined };
    };
    plot = new uPlot(
      {
        width: host.clientWidth || 320,
        height: host.clientHeight || 160,
        padding: [8, 26, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
        hooks: { setCursor: [(self) => setUnder(self.cursor.idx ?? null)] },
        scales: {
          x: { range: (_, min, max) => [Math.min(min, max - SPAN), max] },
          y: { range: (_, __, max) => [0, Math.max(max * 1.15, props.least)] },
        },
        axes: [
          { ...axis, grid: { show: false }, size: 24, space: 70, values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toTimeString().slice(0, 8)) },
          { ...axis, size: 66, space: 28, incrs: props.steps, values: (_, ticks) => ticks.map((tick) => props.format(tick)) },
        ],
        series: props.whole
          ? [{}, line("--pv-chart-containers", false), line("--pv-chart-vm", true)]
          : [{}, line("--pv-chart-vm", true)],
      },
      data(),
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
    void props.whole;
    if (plot) draw();
  });
  createEffect(() => {
    const now = data();
    plot?.setData(now);
  });
  onCleanup(() => plot?.destroy());
  return (
    <figure class="pv-chart" id={props.id} data-points={props.points.length}>
      <figcaption>
        <strong>{props.title}</strong>
        <Show when={props.whole} fallback={<span class="pv-key pv-key-vm">{props.format(shown() && props.value(shown()!))}</span>}>
          {(whole) => (
            <>
              <span class="pv-key pv-key-vm" title="What the host gives to the whole VM">VM {props.format(shown() && whole()(shown()!))}</span>
              <span class="pv-key pv-key-containers" title="What the containers inside use">Containers {props.format(shown() && props.value(shown()!))}</span>
            </>
          )}
        </Show>
      </figcaption>
      <div class="pv-plot" ref={host} />
    </figure>
  );
}
