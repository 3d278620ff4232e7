import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { DEFAULT_OPTIONS, type AgentOptions } from '../agent/options.ts';
import { createLog, type LogLevel } from '../base/log.ts';
import { VERSION } from '../base/version.ts';
import { LIMITS } from '../base/limits.ts';
import { parseQuantity, quantityBytes } from '../kube/quantity.ts';
import { defineCommand, type OptionSpecs, type OptionValues } from './command.ts';
import { EXIT, usageError } from './exit.ts';
import { wholeNumber } from './values.ts';

const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];
/** The kubelet's `--v`: from here on it logs what only a developer wants to know. */
const DEBUG_VERBOSITY = 4;

const OPTIONS = {
  'root-dir': {
    type: 'string',
    value: 'DIR',
    default: DEFAULT_OPTIONS.rootDirectory,
    help: 'state: the database, volumes, files of pods',
  },
  'run-dir': {
    type: 'string',
    value: 'DIR',
    default: DEFAULT_OPTIONS.runDirectory,
    help: 'the local socket; gone after a boot',
  },
  'pod-manifest-path': {
    type: 'string',
    value: 'DIR',
    default: DEFAULT_OPTIONS.manifestDirectory,
    help: 'folder of static pods',
  },
  'container-runtime-endpoint': {
    type: 'string',
    value: 'URL',
    default: DEFAULT_OPTIONS.runtimeEndpoint,
    help: 'socket of containerd or CRI-O',
  },
  'hostname-override': { type: 'string', value: 'NAME', help: "node name; else the host's name" },
  kubeconfig: {
    type: 'string',
    value: 'FILE',
    help: 'the way to the cluster; without it the node belongs to none',
  },
  'bootstrap-kubeconfig': {
    type: 'string',
    value: 'FILE',
    help: 'with what the node joins when --kubeconfig can not be used',
  },
  'cert-dir': {
    type: 'string',
    value: 'DIR',
    default: '/var/lib/kubelet/pki',
    help: "the node's certificates",
  },
  'node-ip': { type: 'string', value: 'IP', help: "else that of the default route's interface" },
  'node-labels': {
    type: 'string',
    value: 'LIST',
    help: 'labels that the node joins with: K=V,...',
  },
  'register-with-taints': {
    type: 'string',
    value: 'LIST',
    help: 'taints that the node joins with: K=V:EFFECT,...',
  },
  'cgroup-driver': {
    type: 'string',
    value: 'DRIVER',
    default: DEFAULT_OPTIONS.cgroupDriver,
    help: 'systemd or cgroupfs, when the runtime does not say',
  },
  'resolv-conf': {
    type: 'string',
    value: 'FILE',
    default: DEFAULT_OPTIONS.resolvConf,
    help: "the host's name servers, for pods that want them",
  },
  'cluster-dns': {
    type: 'string',
    multiple: true,
    value: 'IP',
    help: 'name server of the cluster; may be given several times',
  },
  'cluster-domain': {
    type: 'string',
    value: 'NAME',
    default: DEFAULT_OPTIONS.clusterDomain,
    help: 'DNS domain of the cluster',
  },
  'max-pods': {
    type: 'string',
    value: 'N',
    default: String(DEFAULT_OPTIONS.maxPods),
    help: 'pods on this node at most',
  },
  'pod-logs-dir': {
    type: 'string',
    value: 'DIR',
    default: DEFAULT_OPTIONS.podLogsDirectory,
    help: 'logs of containers',
  },
  'container-log-max-size': {
    type: 'string',
    value: 'SIZE',
    default: '10Mi',
    help: 'a log file is rotated at this size',
  },
  'container-log-max-files': {
    type: 'string',
    value: 'N',
    default: String(DEFAULT_OPTIONS.containerLogMaxFiles),
    help: 'log files kept of a container',
  },
  'log-level': { type: 'string', value: 'LEVEL', help: 'debug, info, warn or error' },
  v: { type: 'string', short: 'v', value: 'N', help: "the kubelet's verbosity: 4 and up is debug" },
} as const satisfies OptionSpecs;

export const command = defineCommand({
  name: 'run',
  usage: '[OPTIONS]',
  summary: 'Run the agent in the foreground. As root; systemd does this with limpet.service.',
  details: `
Options are spelled as the kubelet spells them. SIGTERM ends the agent and leaves all pods running:
the next start finds them again.`,
  options: OPTIONS,
  examples: [
    ['sudo limpet run', 'with the folders that the packages use'],
    ['sudo limpet run --pod-manifest-path /srv/manifests --v 4', 'another folder, and all details'],
    ['journalctl -u limpet -f', 'what it says when systemd runs it'],
  ],
  async run({ options, words }, io) {
    if (words.length > 0)
      throw usageError(`limpet run takes no arguments, only options: ${words[0]}`);
    const parsed = agentOptions(options);
    // The name for ps, top and pgrep; Node would be called node-MainThread.
    process.title = 'limpet';
    const controller = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => controller.abort(new Error(`ended by ${signal}`)));
    }
    const log = createLog(parsed.logLevel, io.err, {
      journal: process.env['JOURNAL_STREAM'] !== undefined,
    });
    const { loadNativeBinding } = await import('../agent/native-binding.ts');
    const nativeBinding = loadNativeBinding(parsed.rootDirectory, log);
    const { runAgent } = await import('../agent/agent.ts');
    await runAgent(
      nativeBinding === undefined ? parsed : { ...parsed, nativeBinding },
      AbortSignal.any([controller.signal, io.signal]),
    );
    return EXIT.ok;
  },
});

type Values = OptionValues<typeof OPTIONS>;

function agentOptions(options: Values): AgentOptions {
  return {
    ...DEFAULT_OPTIONS,
    rootDirectory: absolute('root-dir', options['root-dir']),
    runDirectory: absolute('run-dir', options['run-dir']),
    manifestDirectory: absolute('pod-manifest-path', options['pod-manifest-path']),
    runtimeEndpoint: endpoint(options['container-runtime-endpoint']),
    nodeName: nodeName(options['hostname-override']),
    podLogsDirectory: absolute('pod-logs-dir', options['pod-logs-dir']),
    cgroupDriver: cgroupDriver(options['cgroup-driver']),
    resolvConf: absolute('resolv-conf', options['resolv-conf']),
    clusterDNS: options['cluster-dns'].flatMap((value) => value.split(',')).map(ipAddress),
    clusterDomain: options['cluster-domain'],
    maxPods: wholeNumber('--max-pods', options['max-pods'], { min: 1, max: LIMITS.pods }),
    containerLogMaxBytes: logSize(options['container-log-max-size']),
    containerLogMaxFiles: wholeNumber(
      '--container-log-max-files',
      options['container-log-max-files'],
      { min: 2, max: 100 },
    ),
    logLevel: logLevel(options['log-level'], options.v),
    nodeIPs: (options['node-ip'] ?? '').split(',').filter(Boolean).map(nodeIP),
    version: VERSION,
    ...(options.kubeconfig !== undefined && {
      cluster: clusterOptions(options.kubeconfig, options),
    }),
  };
}

function clusterOptions(kubeconfig: string, options: Values): NonNullable<AgentOptions['cluster']> {
  const bootstrap = options['bootstrap-kubeconfig'];
  const labels = (options['node-labels'] ?? '').split(',').filter(Boolean);
  const taints = (options['register-with-taints'] ?? '').split(',').filter(Boolean);
  return {
    kubeconfig: absolute('kubeconfig', kubeconfig),
    ...(bootstrap !== undefined && {
      bootstrapKubeconfig: absolute('bootstrap-kubeconfig', bootstrap),
    }),
    certDirectory: absolute('cert-dir', options['cert-dir']),
    registration: {
      labels: Object.fromEntries(
        labels.map((label) => {
          const [, key, value] = /^([^=]+)=(.*)$/.exec(label) ?? [];
          if (key !== undefined && value !== undefined) return [key, value];
          throw usageError(`--node-labels is KEY=VALUE,..., not "${label}"`);
        }),
      ),
      taints: taints.map((taint) => {
        const [, key, value, effect] =
          /^([^=:]+)(?:=([^:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)$/.exec(taint) ?? [];
        if (key === undefined || effect === undefined) {
          throw usageError(`--register-with-taints is KEY=VALUE:EFFECT,..., not "${taint}"`);
        }
        return { key, effect, ...(value && { value }) };
      }),
    },
    rotate: true,
    servingCertificate: false,
  };
}

function nodeIP(given: string): string {
  if (isIP(given) !== 0) return given;
  throw usageError(`--node-ip is an IP address, not "${given}"`);
}

function ipAddress(given: string): string {
  if (isIP(given) !== 0) return given;
  throw usageError(`--cluster-dns is an IP address, not "${given}"`);
}

const MIN_LOG_BYTES = 4096;

function logSize(given: string): number {
  const bytes = parseQuantity(given) === undefined ? Number.NaN : quantityBytes(given);
  if (bytes >= MIN_LOG_BYTES) return bytes;
  throw usageError(`--container-log-max-size is a size such as 10Mi, not "${given}"`);
}

function absolute(option: string, path: string): string {
  if (path.startsWith('/') && !path.includes('\0')) return path;
  throw usageError(`--${option} is an absolute path, not "${path}"`);
}

function endpoint(given: string): string {
  if (/^unix:\/\/\/./.test(given)) return given;
  if (given.startsWith('/')) return `unix://${given}`;
  throw usageError(
    `--container-runtime-endpoint is a unix socket, not "${given}"`,
    'for example unix:///run/containerd/containerd.sock',
  );
}

/** Node names are DNS subdomains (RFC 1123), as the API server wants them. */
function nodeName(given: string | undefined): string {
  const name = (given ?? hostname()).trim().toLowerCase();
  const label = '[a-z0-9]([a-z0-9-]*[a-z0-9])?';
  if (name.length <= 253 && new RegExp(`^${label}(\\.${label})*$`).test(name)) return name;
  throw usageError(
    `"${name}" cannot be a node name: lowercase letters, digits, "-" and "." only`,
    given === undefined ? 'give one with --hostname-override, or rename the host' : '',
  );
}

function cgroupDriver(given: string): 'systemd' | 'cgroupfs' {
  if (given === 'systemd' || given === 'cgroupfs') return given;
  throw usageError(`--cgroup-driver is systemd or cgroupfs, not "${given}"`);
}

function logLevel(level: string | undefined, verbosity: string | undefined): LogLevel {
  if (level !== undefined) {
    const found = LOG_LEVELS.find((candidate) => candidate === level);
    if (found !== undefined) return found;
    throw usageError(`--log-level is one of ${LOG_LEVELS.join(', ')}, not "${level}"`);
  }
  if (verbosity === undefined) return 'info';
  return wholeNumber('--v', verbosity, { min: 0, max: 10 }) >= DEBUG_VERBOSITY ? 'debug' : 'info';
}
