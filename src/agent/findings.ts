/** What is wrong with the node as the agent sees it, with what to do about it. */
import type { Fault } from '../base/failure.ts';
import type { Hold } from '../pod/model.ts';
import type { ClusterReport, Finding } from '../server/api.ts';
import type { Store } from '../store/store.ts';
import type { Holds } from './holds.ts';
import type { AgentOptions } from './options.ts';
import type { RuntimeState } from './runtime-watch.ts';

/** Why nothing new is started when the store can't be written. */
export function fullHold(fault: Fault): Hold {
  return {
    reason: fault.code === 'NoSpace' ? 'NodeStorageFull' : 'NodeStorageFailed',
    message: `nothing new is started, since it could not be stored: ${fault.message}`,
  };
}

/** Names of pods that run and that somebody should know of, but does not. */
export type Strays = {
  /** The runtime has them, and the store was lost. */
  readonly unknown: readonly string[];
  /** The cluster was restored from a backup that is older than they are. */
  readonly forgotten: readonly string[];
};

/** The findings of this moment. */
export function findingsOf(
  { configWarnings }: Pick<AgentOptions, 'configWarnings'>,
  store: Store,
  runtime: RuntimeState,
  { unknown, forgotten }: Strays,
  holds: Holds,
  cluster: ClusterReport | undefined,
  expiredTokens: readonly string[],
): readonly Finding[] {
  const findings: Finding[] = [];
  const add = (check: string, health: Finding['health'], message: string, remedy?: string) =>
    findings.push({ check, health, message, ...(remedy !== undefined && { remedy }) });
  if (!runtime.connected) {
    const remedy = 'see: systemctl status containerd';
    add('runtime', 'failed', runtime.message ?? 'the runtime does not answer', remedy);
  } else if (!runtime.networkReady) {
    const remedy = 'put a CNI configuration into /etc/cni/net.d; see: limpet doctor';
    add('network', 'failed', runtime.message ?? 'the network is not ready', remedy);
  }
  if (cluster?.message !== undefined) add('cluster', 'degraded', cluster.message);
  if (expiredTokens.length > 0) {
    const message = `the API server refuses the expired tokens of ${expiredTokens.join(', ')}`;
    add('tokens', 'degraded', message, 'they are renewed when it can be reached');
  }
  const hold = holds.current;
  const health = store.health();
  const held = hold?.reason === 'RuntimeNotReady' ? '' : hold?.message;
  const full = held ?? (health.ok ? '' : health.fault.message);
  if (full !== '') add('storage', 'failed', full, 'make room on the disk; see: df -h');
  const { state, message, setAside } = store.opening;
  if (state === 'restored' || state === 'rebuilt') {
    const kept = setAside === undefined ? '' : `; the damaged files are in ${setAside}`;
    add('store', 'degraded', `${message}${kept}`, 'check the SD card, and the pods in this list');
  }
  if (unknown.length > 0) {
    add(
      'pods',
      'degraded',
      `${unknown.length} pod(s) run that the rebuilt store does not know: ${unknown.join(', ')}`,
      'apply their manifests again; or end them: crictl stopp ID',
    );
  }
  if (forgotten.length > 0) {
    add(
      'pods',
      'degraded',
      `${forgotten.length} pod(s) go on that the cluster, which was restored from a backup, does not ` +
        `know: ${forgotten.join(', ')}`,
      'create them again there under the same names; or end them: limpet delete pod NAME',
    );
  }
  for (const warning of configWarnings) {
    add('configuration', 'degraded', warning, 'see: limpet config');
  }
  return findings;
}
