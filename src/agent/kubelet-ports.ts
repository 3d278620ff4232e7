/**
 * The kubelet's ports on this node: 10250 for its cluster, 10248 for health. What they need is on
 * the disk or in the agent; what is wrong with it is told and tried again, and ends nothing else.
 *
 * Files are looked at every half minute: a CA or a certificate that was renewed is in use from the
 * next connection on, and so is one of our own for other addresses. What is new and can't be used
 * does not take the place of what worked.
 */
import { readCredential } from '../apiserver/kubeconfig.ts';
import { abortable } from '../base/abortable.ts';
import { systemRandom } from '../base/random.ts';
import { writtenConfig } from '../kube/config-settings.ts';
import { KUBELET_FIELDS } from '../kube/kubelet-config.ts';
import { KUBELET_CONFIG } from '../kube/kubelet-settings.ts';
import { addressesNow } from '../linux/machine.ts';
import { faultOf, type Fault } from '../base/failure.ts';
import type { Finding } from '../server/api.ts';
import { serveHealthz } from '../server/health.ts';
import { serveKubelet, type KubeletOptions } from '../server/kubelet.ts';
import type { KeyPair } from '../server/self-signed.ts';
import { certificateFiles } from './certificate-files.ts';
import type { Session } from './cluster.ts';
import type { Core, Foundation } from './core.ts';
import type { AgentOptions } from './options.ts';
import { podList } from './report.ts';
import { clusterReviews } from './reviews.ts';

export type KubeletPortsParts = {
  readonly options: AgentOptions;
  readonly base: Pick<Foundation, 'clock' | 'log' | 'store'>;
  readonly core: Pick<Core, 'cri' | 'turns' | 'holds' | 'hostIPs'>;
};

export type KubeletPorts = {
  /** Until the signal is aborted this is how to ask who somebody is, and what they may do. */
  useSession(session: Session, signal: AbortSignal): void;
  findings(): readonly Finding[];
  /** Serves until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
};

const LOOK_MS = 30_000;
const MIN_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 60_000;

type Port = 'kubelet port' | 'healthz port';

export function createKubeletPorts(parts: KubeletPortsParts): KubeletPorts {
  const { options, base } = parts;
  const { clock, log } = base;
  const { kubelet } = options;
  let session: Session | undefined;
  const { told, findings } = createProblems(base, options.nodeName);
  /** Opens a port, however long that takes, and serves it until the signal is aborted. */
  const keep = async (port: Port, serve: () => Promise<void>, signal: AbortSignal) => {
    for (
      let waitMs = MIN_BACKOFF_MS;
      !signal.aborted;
      waitMs = Math.min(waitMs * 2, MAX_BACKOFF_MS)
    ) {
      try {
        await serve();
      } catch (error) {
        if (signal.aborted) return;
        told(port, faultOf(error));
        await clock.sleep(waitMs, signal).catch(() => undefined);
      }
    }
  };
  const serveHealth = async (signal: AbortSignal): Promise<void> => {
    const endpoint = { address: kubelet.healthzBindAddress, port: kubelet.healthzPort };
    await using _health = await serveHealthz(endpoint, log);
    told('healthz port', undefined);
    await abortable(Promise.withResolvers<never>().promise, signal);
  };
  const servePort = async (signal: AbortSignal): Promise<void> => {
    let seen = certificatesOf(options);
    const given = { ...serverOptions(parts, () => session), ...seen };
    await using server = await serveKubelet(given, signal);
    told('kubelet port', undefined);
    while (!signal.aborted) {
      await clock.sleep(LOOK_MS, signal);
      try {
        const now = certificatesOf(options);
        if (JSON.stringify(now) !== JSON.stringify(seen)) {
          server.useCertificates(now);
          seen = now;
          log.info('other certificates are in use', { port: 'kubelet port' });
        }
        told('kubelet port', undefined);
      } catch (error) {
        const { code, message } = faultOf(error);
        told('kubelet port', { code, message: `${message}; what was there before is used` });
      }
    }
  };
  return {
    useSession: (next, signal) => {
      session = next;
      const onAbort = () => {
        if (session === next) session = undefined;
      };
      signal.addEventListener('abort', onAbort, { once: true });
    },
    findings,
    run: async (signal) => {
      const serves = options.cluster !== undefined && kubelet.enableServer;
      await Promise.all([
        kubelet.healthzPort !== 0 && keep('healthz port', () => serveHealth(signal), signal),
        serves && keep('kubelet port', () => servePort(signal), signal),
      ]);
    },
  };
}

/** What is wrong with the ports; each is told once. */
function createProblems({ clock, log, store }: KubeletPortsParts['base'], nodeName: string) {
  const faults = new Map<Port, Fault>();
  const told = (port: Port, fault: Fault | undefined): void => {
    if (faults.get(port)?.message === fault?.message) return;
    if (fault === undefined) {
      faults.delete(port);
      log.info('served again', { port });
      return;
    }
    faults.set(port, fault);
    const message = `${port}: ${fault.message}`;
    log.warn(message);
    const object = { kind: 'Node', name: nodeName, uid: nodeName } as const;
    const event = { type: 'Warning', reason: 'FailedToServe', message, object } as const;
    store.recordEvent(event, clock.now());
  };
  const findings = (): readonly Finding[] =>
    [...faults].map(([check, { message }]) => ({ check, health: 'degraded', message }));
  return { told, findings };
}

/** All that does not change while the agent runs. */
function serverOptions(
  { options, base, core }: KubeletPortsParts,
  session: () => Session | undefined,
): Omit<KubeletOptions, 'serving' | 'clientCA'> {
  const { clock, log } = base;
  const { kubelet, nodeName } = options;
  const { authentication, authorization } = kubelet;
  const { reviewToken, reviewAccess } = clusterReviews(session);
  return {
    ...{ nodeName, clock, log, random: systemRandom(), reviewAccess },
    ...{ address: kubelet.address, port: kubelet.port },
    nodeAddresses: () => addressesNow(options.nodeIPs),
    minVersion: kubelet.tlsMinVersion === 'VersionTLS13' ? 'TLSv1.3' : 'TLSv1.2',
    debugging: kubelet.enableDebuggingHandlers,
    reviewToken: authentication.webhook.enabled
      ? reviewToken
      : () => Promise.resolve({ authenticated: false }),
    remember: {
      authenticatedMs: authentication.webhook.cacheTTL,
      authorizedMs: authorization.webhook.cacheAuthorizedTTL,
      unauthorizedMs: authorization.webhook.cacheUnauthorizedTTL,
    },
    podLogsDirectory: options.podLogsDirectory,
    runtime: core.cri.runtime,
    streaming: core.cri.streaming,
    idleMs: kubelet.streamingConnectionIdleTimeout,
    pods: () => podList(core.turns.workers.values(), clock.now(), core.hostIPs()[0]),
    configz: () => {
      const { apiVersion, kind } = KUBELET_CONFIG;
      return { ...writtenConfig(KUBELET_FIELDS, kubelet), kind, apiVersion };
    },
    syncLoop: () => core.holds.current?.message,
  };
}

type Certificates = Pick<KubeletOptions, 'serving' | 'clientCA'> & {
  /** Those of a certificate of our own. */
  readonly addresses: readonly string[];
};

/** As they are on the disk now. @throws Failure */
function certificatesOf(options: AgentOptions): Certificates {
  const { clientCAFile } = options.kubelet.authentication.x509;
  return {
    serving: servingOf(options),
    clientCA: clientCAFile === '' ? undefined : textOf(clientCAFile, 'the client CA'),
    addresses: addressesNow(options.nodeIPs),
  };
}

/** What was configured, or issued by the cluster; undefined: one of our own. */
function servingOf({ kubelet, cluster }: AgentOptions): KeyPair | undefined {
  const { tlsCertFile, tlsPrivateKeyFile, serverTLSBootstrap } = kubelet;
  if (tlsCertFile !== '') {
    return {
      cert: textOf(tlsCertFile, 'the serving certificate'),
      key: textOf(tlsPrivateKeyFile, 'the key of the serving certificate'),
    };
  }
  if (!serverTLSBootstrap || cluster === undefined) return undefined;
  const issued = certificateFiles(cluster.certDirectory, 'kubelet-server');
  if (issued.validity() === undefined) return undefined;
  const both = textOf(issued.currentPath, 'the serving certificate');
  return { cert: both, key: both };
}

function textOf(path: string, what: string): string {
  return readCredential(path, what).toString('utf8');
}
