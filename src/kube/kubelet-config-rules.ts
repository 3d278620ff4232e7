/**
 * What fields of a KubeletConfiguration must be beside the range that its table gives them: mostly
 * rules about several of them at once.
 * Source: k8s.io/kubernetes pkg/kubelet/apis/config/validation, pkg/kubelet/eviction/helpers.go
 * and cmd/kubelet/app/server.go (reservations), v1.36.3.
 */
import { LIMITS } from '../base/limits.ts';
import type { FeatureGates } from './feature-gates.ts';
import { parseDuration } from './go-duration.ts';
import type { KubeletConfig } from './kubelet-config.ts';
import { labelValueProblem, qualifiedNameProblem } from './names.ts';
import { parseQuantity } from './quantity.ts';

/** Takes a problem of the field at `path`. */
export type Add = (path: string, message: string) => void;

type Rule = (config: KubeletConfig, add: Add, gates: FeatureGates) => void;

/** Holds a configuration against all rules. */
export function checkKubeletConfig(config: KubeletConfig, gates: FeatureGates, add: Add): void {
  for (const rule of RULES) rule(config, add, gates);
}

const SECOND = 1000;

const durations: Rule = (config, add, gates) => {
  const { imageMinimumGCAge, imageMaximumGCAge, crashLoopBackOff } = config;
  if (imageMinimumGCAge < 0) add('imageMinimumGCAge', 'must not be negative');
  if (imageMaximumGCAge < 0) add('imageMaximumGCAge', 'must not be negative');
  if (imageMaximumGCAge > 0 && imageMaximumGCAge <= imageMinimumGCAge) {
    add('imageMaximumGCAge', 'must be greater than imageMinimumGCAge');
  }
  if (config.containerLogMonitorInterval < 3 * SECOND) {
    add('containerLogMonitorInterval', 'must be 3s or longer');
  }
  if (config.logging.flushFrequency < 0) add('logging.flushFrequency', 'must not be negative');
  const periodMs = config.cpuCFSQuotaPeriod;
  if (!gates.enabled('CustomCPUCFSQuotaPeriod') && periodMs !== 100) {
    add('cpuCFSQuotaPeriod', 'needs the feature gate CustomCPUCFSQuotaPeriod');
  }
  if (periodMs < 1 || periodMs > SECOND) {
    add('cpuCFSQuotaPeriod', 'must be between 1ms and 1s, inclusive');
  }
  const restartMs = crashLoopBackOff.maxContainerRestartPeriod;
  if (restartMs < SECOND || restartMs >= 300 * SECOND + 1) {
    add('crashLoopBackOff.maxContainerRestartPeriod', 'must be between 1s and 300s, inclusive');
  }
};

const images: Rule = (config, add, gates) => {
  if (config.imageGCLowThresholdPercent >= config.imageGCHighThresholdPercent) {
    const high = config.imageGCHighThresholdPercent;
    add('imageGCLowThresholdPercent', `must be less than imageGCHighThresholdPercent (${high})`);
  }
  if (config.serializeImagePulls && (config.maxParallelImagePulls ?? 1) > 1) {
    add('maxParallelImagePulls', 'must be 1 unless serializeImagePulls is false');
  }
  const policy = 'imagePullCredentialsVerificationPolicy';
  const allowlist = 'preloadedImagesVerificationAllowlist';
  const listed = config[allowlist].length > 0;
  if (gates.enabled('KubeletEnsureSecretPulledImages')) {
    if (listed && config[policy] !== 'NeverVerifyAllowlistedImages') {
      add(allowlist, `needs ${policy} to be "NeverVerifyAllowlistedImages"`);
    }
  } else if (listed) add(allowlist, 'needs the feature gate KubeletEnsureSecretPulledImages');
  const { imageServiceEndpoint, containerRuntimeEndpoint } = config;
  if (imageServiceEndpoint !== '' && imageServiceEndpoint !== containerRuntimeEndpoint) {
    add('imageServiceEndpoint', 'limpet takes images from the container runtime; remove it');
  }
};

const cgroups: Rule = (config, add) => {
  if (config.systemCgroups !== '' && config.cgroupRoot === '') {
    add('systemCgroups', 'needs cgroupRoot');
  }
  const { enforceNodeAllocatable: enforced, kubeReservedCgroup, systemReservedCgroup } = config;
  const path = 'enforceNodeAllocatable';
  const known = ['pods', 'none'];
  for (const [what, cgroup] of [
    ['system-reserved', systemReservedCgroup],
    ['kube-reserved', kubeReservedCgroup],
  ] as const) {
    const both = [what, `${what}-compressible`];
    known.push(...both);
    if (both.every((one) => enforced.includes(one))) {
      add(path, `can't have both "${what}" and "${what}-compressible"`);
    }
    const field = what === 'kube-reserved' ? 'kubeReservedCgroup' : 'systemReservedCgroup';
    if (cgroup === '' && both.some((one) => enforced.includes(one))) {
      add(path, `"${what}" needs ${field}`);
    }
  }
  enforced.forEach((value, index) => {
    if (!known.includes(value)) add(path, `"${value}" is none of ${known.join(', ')}`);
    if (enforced.indexOf(value) !== index) add(path, `has "${value}" twice`);
  });
  if (enforced.includes('none') && enforced.length > 1) add(path, '"none" must stand alone');
  if (!config.cgroupsPerQOS && enforced.some((value) => value !== 'none')) {
    add('cgroupsPerQOS', `must be true unless ${path} is "none"`);
  }
  if (config.reservedSystemCPUs === '') return;
  if (systemReservedCgroup !== '' || kubeReservedCgroup !== '') {
    add('reservedSystemCPUs', "can't go with systemReservedCgroup or kubeReservedCgroup");
  }
  if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(config.reservedSystemCPUs)) {
    add('reservedSystemCPUs', 'must be a list of processors such as "0-1,3"');
  }
};

const reservations: Rule = (config, add) => {
  const resources = ['cpu', 'memory', 'ephemeral-storage', 'pid'];
  for (const path of ['systemReserved', 'kubeReserved'] as const) {
    for (const [name, amount] of Object.entries(config[path])) {
      const parsed = parseQuantity(amount);
      if (!resources.includes(name)) add(path, `can reserve ${resources.join(', ')}, not ${name}`);
      else if (parsed === undefined) add(path, `${name}: "${amount}" is no quantity`);
      else if (parsed < 0n) add(path, `${name}: "${amount}" must not be negative`);
    }
  }
  const seen = new Set<string>();
  for (const { numaNode, limits } of config.reservedMemory) {
    for (const [name, amount] of Object.entries(limits)) {
      const twin = `${numaNode} ${name}`;
      if (name !== 'memory' && !name.startsWith('hugepages-')) {
        add('reservedMemory', `can reserve memory and hugepages-<size>, not ${name}`);
      }
      if (parseQuantity(amount) === 0n) add('reservedMemory', `${name} must not be zero`);
      if (seen.has(twin)) add('reservedMemory', `has ${name} of node ${numaNode} twice`);
      seen.add(twin);
    }
  }
};

const SIGNALS: readonly string[] = [
  'memory.available',
  'allocatableMemory.available',
  'nodefs.available',
  'nodefs.inodesFree',
  'imagefs.available',
  'imagefs.inodesFree',
  'containerfs.available',
  'containerfs.inodesFree',
  'pid.available',
];

const eviction: Rule = (config, add) => {
  for (const path of ['evictionHard', 'evictionSoft', 'evictionMinimumReclaim'] as const) {
    for (const [signal, amount] of Object.entries(config[path])) {
      const wrong = thresholdProblem(signal, amount, path === 'evictionMinimumReclaim');
      if (wrong !== undefined) add(path, `${signal}: ${wrong}`);
    }
  }
  for (const [signal, period] of Object.entries(config.evictionSoftGracePeriod)) {
    const ms = parseDuration(period);
    const path = 'evictionSoftGracePeriod';
    if (!SIGNALS.includes(signal)) add(path, `${signal} is no signal of eviction`);
    else if (ms === undefined) add(path, `${signal}: "${period}" is no duration`);
    else if (ms < 0) add(path, `${signal}: "${period}" must not be negative`);
  }
  for (const signal of Object.keys(config.evictionSoft)) {
    if (!Object.hasOwn(config.evictionSoftGracePeriod, signal)) {
      add('evictionSoft', `${signal} needs an evictionSoftGracePeriod`);
    }
  }
};

function thresholdProblem(signal: string, amount: string, isReclaim: boolean): string | undefined {
  if (!SIGNALS.includes(signal)) return `is no signal of eviction (${SIGNALS.join(', ')})`;
  if (amount.endsWith('%')) {
    const percent = Number(amount.slice(0, -1));
    const good = /^\d+(\.\d+)?%$/.test(amount) && percent <= 100;
    if (!good) return `"${amount}" is no percentage from 0% to 100%`;
    return isReclaim && percent === 0 ? `"${amount}" must be more than zero` : undefined;
  }
  const size = parseQuantity(amount);
  if (size === undefined) return `"${amount}" is neither a quantity nor a percentage`;
  if (size > 0n || (isReclaim && size === 0n)) return undefined;
  return `"${amount}" must be ${isReclaim ? 'zero or more' : 'more than zero'}`;
}

const shutdown: Rule = (config, add, gates) => {
  const total = config.shutdownGracePeriod;
  const critical = config.shutdownGracePeriodCriticalPods;
  const byPriority = config.shutdownGracePeriodByPodPriority;
  if (critical > total) {
    add('shutdownGracePeriodCriticalPods', 'must not be longer than shutdownGracePeriod');
  }
  for (const path of ['shutdownGracePeriod', 'shutdownGracePeriodCriticalPods'] as const) {
    if (config[path] !== 0 && config[path] < SECOND) add(path, 'must be 0s, or 1s or longer');
    if (config[path] > 0 && !gates.enabled('GracefulNodeShutdown')) {
      add(path, 'needs the feature gate GracefulNodeShutdown');
    }
  }
  if (byPriority.length === 0) return;
  const path = 'shutdownGracePeriodByPodPriority';
  if (!gates.enabled('GracefulNodeShutdownBasedOnPodPriority')) {
    add(path, 'needs the feature gate GracefulNodeShutdownBasedOnPodPriority');
  } else if (total > 0 || critical > 0) add(path, "can't go with shutdownGracePeriod");
};

const node: Rule = (config, add, gates) => {
  const seen = new Set<string>();
  for (const taint of config.registerWithTaints) {
    const wrong = qualifiedNameProblem(taint.key) ?? labelValueProblem(taint.value ?? '');
    if (wrong !== undefined) add('registerWithTaints', `${taint.key}: ${wrong}`);
    if (taint.effect === '') add('registerWithTaints', `${taint.key} needs an effect`);
    if (seen.has(`${taint.key}:${taint.effect}`)) {
      add('registerWithTaints', `has ${taint.key}:${taint.effect} twice`);
    }
    seen.add(`${taint.key}:${taint.effect}`);
    if ('timeAdded' in taint) add('registerWithTaints', `${taint.key}: timeAdded must not be set`);
  }
  if (config.maxPods > LIMITS.pods) {
    add('maxPods', `limpet runs at most ${LIMITS.pods} pods; lower it`);
  }
  if (config.serverTLSBootstrap && !gates.enabled('RotateKubeletServerCertificate')) {
    add('serverTLSBootstrap', 'needs the feature gate RotateKubeletServerCertificate');
  }
  if ((config.tlsCertFile === '') !== (config.tlsPrivateKeyFile === '')) {
    const given = config.tlsCertFile === '' ? 'tlsPrivateKeyFile' : 'tlsCertFile';
    add(given, 'tlsCertFile and tlsPrivateKeyFile go together');
  }
  if (config.enableSystemLogQuery && !config.enableSystemLogHandler) {
    add('enableSystemLogQuery', 'needs enableSystemLogHandler');
  }
};

const memory: Rule = (config, add, gates) => {
  const factor = config.memoryThrottlingFactor;
  if (factor <= 0 || factor > 1) add('memoryThrottlingFactor', 'must be above 0, and at most 1');
  if (config.memoryReservationPolicy === 'TieredReservation' && !gates.enabled('MemoryQoS')) {
    add('memoryReservationPolicy', 'needs the feature gate MemoryQoS');
  }
  const { idsPerPod } = config.userNamespaces;
  if (idsPerPod !== undefined && idsPerPod % 65_536 !== 0) {
    add('userNamespaces.idsPerPod', 'must be a multiple of 65536');
  }
};

const MIN_LOG_NANOS = 4096n * 10n ** 9n;

const files: Rule = (config, add) => {
  const { podLogsDir: path, containerLogMaxSize } = config;
  const clean = path === '/' || !/\/\/|\/$|\/\.{1,2}(\/|$)/.test(path);
  if (!path.startsWith('/')) add('podLogsDir', 'must be an absolute path');
  else if (!clean) add('podLogsDir', 'must not have "//", "." or "..", or end with "/"');
  if (/[^\x20-\x7e]/.test(path)) add('podLogsDir', 'must be ASCII');
  if ((parseQuantity(containerLogMaxSize) ?? 0n) < MIN_LOG_NANOS) {
    add('containerLogMaxSize', 'must be 4Ki or more; write it as in "10Mi"');
  }
  if (!/^(unix:\/\/)?\/./.test(config.containerRuntimeEndpoint)) {
    const remedy = 'write it as in "unix:///run/containerd/containerd.sock"';
    add('containerRuntimeEndpoint', `must be a unix socket; ${remedy}`);
  }
};

const logging: Rule = (config, add, gates) => {
  const { format, options, vmodule } = config.logging;
  for (const kind of ['text', 'json'] as const) {
    const { splitStream, infoBufferSize } = options[kind];
    if (gates.enabled('LoggingAlphaOptions')) continue;
    const needs = 'needs the feature gate LoggingAlphaOptions';
    if (splitStream) add(`logging.options.${kind}.splitStream`, needs);
    if (parseQuantity(infoBufferSize) !== 0n) {
      add(`logging.options.${kind}.infoBufferSize`, needs);
    }
  }
  if (vmodule.length > 0 && format !== 'text') {
    add('logging.vmodule', 'goes with the format "text" only');
  }
};

const RULES: readonly Rule[] = [
  durations,
  images,
  cgroups,
  reservations,
  eviction,
  shutdown,
  node,
  memory,
  files,
  logging,
];
