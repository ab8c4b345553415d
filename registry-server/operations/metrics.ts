/** Counters in the text format of Prometheus (version 0.0.4). */
import { readdirSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

export interface Metrics {
  /** One answered request. */
  request(what: { method: string; route: string; status: number; seconds: number }): void;
  count(name: CounterName, labels?: Readonly<Record<string, string>>, by?: number): void;
  /** `gauges` are measured by the caller at this moment. */
  render(gauges: Readonly<Record<string, number>>): string;
  close(): void;
}

const counters = {
  kernlock_refusals_total: "Requests refused, by code.",
  kernlock_publishes_total: "Versions published.",
  kernlock_upload_bytes_total: "Bytes of blobs taken in.",
  kernlock_download_bytes_total: "Bytes of blobs sent, by this node itself.",
  kernlock_gc_freed_blobs_total: "Blobs that garbage collection removed.",
  kernlock_damaged_blobs_total: "Blobs found damaged.",
  kernlock_feed_refreshes_total: "Looks at feeds of policies, by outcome.",
  kernlock_mirror_fetches_total: "Questions to upstreams of mirrors, by mirror and outcome.",
  kernlock_mirror_versions_total: "Versions published from upstreams.",
  kernlock_mirror_bytes_total: "Bytes of blobs fetched from upstreams.",
} as const;
export type CounterName = keyof typeof counters;

const bounds = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60];

export function createMetrics(): Metrics {
  const values = new Map<string, number>();
  const requests = new Map<string, number>();
  const buckets = new Array<number>(bounds.length + 1).fill(0);
  let seconds = 0;
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();

  const add = (to: Map<string, number>, key: string, by: number) => to.set(key, (to.get(key) ?? 0) + by);
  return {
    request({ method, route, status, seconds: took }) {
      // Spelled as a metric only when somebody asks: this runs at every request. No route holds a space.
      add(requests, `${method} ${status} ${route}`, 1);
      const bound = bounds.findIndex((limit) => took <= limit);
      buckets[bound < 0 ? bounds.length : bound]! += 1;
      seconds += took;
    },
    count: (name, labels = {}, by = 1) => void add(values, `${name}${text(labels)}`, by),
    render(gauges) {
      const lines = [
        "# HELP kernlock_http_requests_total Requests answered.",
        "# TYPE kernlock_http_requests_total counter",
      ];
      for (const [key, value] of requests) {
        const [method = "", status = "", route = ""] = key.split(" ");
        lines.push(`kernlock_http_requests_total${text({ method, route, status })} ${value}`);
      }
      lines.push("# HELP kernlock_http_request_seconds Time to the end of the answer.");
      lines.push("# TYPE kernlock_http_request_seconds histogram");
      let sum = 0;
      buckets.forEach((count, i) => {
        sum += count;
        lines.push(`kernlock_http_request_seconds_bucket{le="${bounds[i] ?? "+Inf"}"} ${sum}`);
      });
      lines.push(`kernlock_http_request_seconds_sum ${seconds}`, `kernlock_http_request_seconds_count ${sum}`);
      for (const [name, help] of Object.entries(counters)) {
        lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} counter`);
        for (const [key, value] of values)
          if (key === name || key.startsWith(`${name}{`)) lines.push(`${key} ${value}`);
      }
      const measured = {
        ...gauges,
        kernlock_event_loop_delay_p99_seconds: delay.percentile(99) / 1e9,
        process_resident_memory_bytes: process.memoryUsage.rss(),
        process_cpu_seconds_total: (process.cpuUsage().user + process.cpuUsage().system) / 1e6,
        process_open_fds: openFiles(),
      };
      for (const [name, value] of Object.entries(measured)) {
        lines.push(`# TYPE ${name} ${name.endsWith("_total") ? "counter" : "gauge"}`, `${name} ${value}`);
      }
      return `${lines.join("\n")}\n`;
    },
    close: () => void delay.disable(),
  };
}

function text(labels: Readonly<Record<string, string>>): string {
  const entries = Object.entries(labels);
  if (entries.length === 0) return "";
  const quoted = (value: string) => value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  return `{${entries.map(([name, value]) => `${name}="${quoted(value)}"`).join(",")}}`;
}

function openFiles(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return -1;
  }
}
