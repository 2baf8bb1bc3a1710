// Quantities, sizes, ages: from the wire's text to numbers, and from numbers to what people read.

const SUFFIXES: Record<string, number> = {
  n: 1e-9, u: 1e-6, m: 1e-3, "": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
};

/** Reads a Kubernetes quantity; undefined when there is none. */
export function quantity(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const match = /^([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([numkMGTPE]i?|Ki)?)$/.exec(text);
  if (!match) return undefined;
  const scale = match[2] ? Number(`1${match[2]}`) : SUFFIXES[match[3] ?? ""];
  return scale === undefined ? undefined : Number(match[1]) * scale;
}

/** Bytes as people read them. */
export function bytes(value: number | undefined): string {
  if (value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${trim(value)} ${units[unit]}`;
}

/** CPUs, to a thousandth. */
export function cpus(value: number | undefined): string {
  if (value === undefined) return "–";
  return `${value < 10 ? Number(value.toFixed(value < 1 ? 3 : 2)) : trim(value)} CPU`;
}

/** Something that is counted. */
export function count(value: number | undefined): string {
  return value === undefined ? "–" : String(Math.round(value));
}

/** "1 Pod VM", "2 Pod VMs". */
export function plural(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

function trim(value: number): string {
  return value >= 100 ? value.toFixed(0) : String(Number(value.toFixed(value >= 10 ? 1 : 2)));
}

/** An age as kubectl prints it: one or two units. */
export function age(since: string | undefined, now: number): string {
  if (!since) return "–";
  const seconds = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  if (Number.isNaN(seconds)) return "–";
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return seconds % 60 ? `${minutes}m${seconds % 60}s` : `${minutes}m`;
  if (hours < 3) return `${minutes}m`;
  if (hours < 8) return minutes % 60 ? `${hours}h${minutes % 60}m` : `${hours}h`;
  if (hours < 48) return `${hours}h`;
  return `${days}d`;
}

/** How full something is, from 0 to 100; undefined without a limit. */
export function percent(used: number | undefined, limit: number | undefined): number | undefined {
  if (used === undefined || limit === undefined || limit <= 0) return undefined;
  return Math.min(100, Math.max(0, (used / limit) * 100));
}
