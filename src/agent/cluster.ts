/**
 * This node as a member of a cluster: it gets its credentials, registers, keeps its lease and its
 * status, and renews its certificates. Whatever goes wrong is told and tried again; pods do not
 * suffer from it.
 */
import { join } from 'node:path';
import { ApiClient } from '../apiserver/client.ts';
import { loadCredentials, type Credentials } from '../apiserver/credentials.ts';
import { CLIENT, SERVING, type Subject } from '../apiserver/csr.ts';
import { readKubeconfig, type Kubeconfig } from '../apiserver/kubeconfig.ts';
import { writeKubeconfig } from '../apiserver/write-kubeconfig.ts';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf, type Fault } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { createRecovery, type Recovery } from '../base/recovery.ts';
import type { EventRecord } from '../kube/event.ts';
import type { Registration } from '../node/object.ts';
import type { MachineFacts, NodeFacts, NodeSettings } from '../node/status.ts';
import type { ClusterReport } from '../server/api.ts';
import type { Store } from '../store/store.ts';
import { certificateFiles, type Validity } from './certificate-files.ts';
import {
  createClusterCheck,
  forgetCluster,
  storedCluster,
  type ClusterCheck,
} from './cluster-check.ts';
import { ClusterState } from './cluster-state.ts';
import { keepLease } from './lease-loop.ts';
import { keepNode } from './node-loop.ts';
import { keepBootstrap, keptBootstrap, type KeptBootstrapOptions } from './kept-bootstrap.ts';
import { createPoke } from './poke.ts';
import { keepCertificate, type Asker } from './renewal.ts';

/** Plain values of the kubelet's options. */
export type ClusterOptions = {
  /** Written by the bootstrap when there is none that can be used. */
  readonly kubeconfig: string;
  readonly bootstrapKubeconfig?: string | undefined;
  readonly certDirectory: string;
  /** In memory: where a kept bootstrap kubeconfig is put while it is used. */
  readonly runDirectory: string;
  readonly registration: Registration;
  /** Renew the client certificate (`rotateCertificates`). */
  readonly rotate: boolean;
  /** Ask the cluster for a serving certificate (`serverTLSBootstrap`). */
  readonly servingCertificate: boolean;
  /** What certificates are asked for; the signer's own wish when undefined. */
  readonly expirationSeconds?: number | undefined;
};

export type ClusterParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: Store;
  readonly machine: MachineFacts;
  readonly settings: NodeSettings;
  readonly facts: (signal: AbortSignal) => Promise<NodeFacts>;
  /** A certificate has proved that it is at least this late, in ms since 1970. */
  readonly onLaterThan: (wallMs: number) => void;
  /** Each time that the lease was renewed or could not be. */
  readonly onLease: (isRenewed: boolean) => void;
  /** Until the signal is aborted the cluster can be talked to with this. */
  readonly onSession?: (session: Session, signal: AbortSignal) => Promise<void>;
};

/** What others need to talk to the cluster. */
export type Session = {
  readonly client: ApiClient;
  readonly credentials: Credentials;
  /** The API server answers the lease's renewal again. */
  readonly recovery: Pick<Recovery, 'next'>;
} & Omit<ClusterCheck, 'leased'>;

export type Cluster = {
  /** Something that the status tells of may have changed. */
  poke(): void;
  report(): ClusterReport;
  /** Until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
};

const RETRY_MS = 30_000;

export function createCluster(options: ClusterOptions, parts: ClusterParts): Cluster {
  const { clock, log, store } = parts;
  const nodeName = options.registration.nodeName;
  const files = certificateFiles(options.certDirectory, 'kubelet-client');
  const state = new ClusterState(clock, options.kubeconfig, () => files.validity());
  const pokes = { node: createPoke(clock), lease: createPoke(clock), renewal: createPoke(clock) };
  // The kubelet, too, gives the name of the Node as its UID: it is known before the object is.
  const object = { kind: 'Node', name: nodeName, uid: nodeName, inApi: true } as const;
  const onEvent = (type: EventRecord['type'], reason: string, message: string) =>
    store.recordEvent({ type, reason, message, object }, clock.now());
  const context: Context = { options, parts, files, state, pokes, onEvent };
  return {
    poke: () => pokes.node.poke(),
    report: () => state.report(),
    run: async (signal) => {
      onEvent('Normal', 'Starting', 'Starting limpet.');
      while (!signal.aborted) {
        const reload = new AbortController();
        const session = AbortSignal.any([signal, reload.signal]);
        try {
          const credentials = await obtain(context, session);
          await follow(context, credentials, () => reload.abort(), session);
        } catch (error) {
          if (signal.aborted) return;
          state.failed('credentials', faultOf(error));
          log.warn('not a member of a cluster', { problem: faultOf(error).message });
          await clock.sleep(RETRY_MS, signal).catch(() => undefined);
        } finally {
          reload.abort();
        }
      }
    },
  };
}

type Context = {
  readonly options: ClusterOptions;
  readonly parts: ClusterParts;
  readonly files: ReturnType<typeof certificateFiles>;
  readonly state: ClusterState;
  readonly pokes: Readonly<Record<'node' | 'lease' | 'renewal', ReturnType<typeof createPoke>>>;
  readonly onEvent: (type: EventRecord['type'], reason: string, message: string) => void;
};

/** The credentials of the kubeconfig; made with those of the bootstrap if it can't be used. */
async function obtain(context: Context, signal: AbortSignal): Promise<Credentials> {
  const { options, parts, state } = context;
  const { clock, log } = parts;
  const load = async () => await loadCredentials(options.kubeconfig, { clock, log, signal });
  try {
    return await load();
  } catch (error) {
    if (!(error instanceof Failure) || options.bootstrapKubeconfig === undefined) throw error;
    log.warn('the kubeconfig can not be used; the node joins with its bootstrap kubeconfig', {
      problem: error.message,
    });
  }
  state.joining();
  const joined = new AbortController();
  const validity = context.files.validity();
  // A crash came between the certificate and the kubeconfig.
  if (validity !== undefined && validity.notAfterMs > clock.now().wallMs) {
    await pointKubeconfig(context);
    return await load();
  }
  await keepCertificate(
    {
      ...clientRenewal(context),
      askers: async () => {
        // Somebody may have mended it meanwhile.
        if (await load().catch(() => undefined)) joined.abort();
        return [await bootstrapAsker(context, AbortSignal.any([signal, joined.signal]))];
      },
      onIssued: async () => {
        await pointKubeconfig(context);
        const path = options.bootstrapKubeconfig;
        if (path !== undefined) await keepBootstrap(keptOf(context), path);
        // Whoever joins anew knows which cluster that is.
        forgetCluster(parts.store);
        joined.abort();
      },
    },
    context.pokes.renewal,
    AbortSignal.any([signal, joined.signal]),
  );
  return await load();
}

function clientRenewal({ options, parts, files, state }: Context) {
  const { clock, random, log } = parts;
  return {
    ...{ clock, random, log, files, purpose: CLIENT },
    expirationSeconds: options.expirationSeconds,
    subject: () => subjectOf(options.registration.nodeName, []),
    onProblem: (problem: Fault | undefined) => state.failed('certificate', problem),
  };
}

function subjectOf(nodeName: string, names: readonly string[]): Subject {
  return { commonName: `system:node:${nodeName}`, organization: 'system:nodes', names };
}

function keptOf({ options, parts }: Context): KeptBootstrapOptions {
  const { store, log } = parts;
  return { store, log, path: join(options.runDirectory, 'bootstrap-kubeconfig') };
}

/** The credentials that the node may join with: of the file, or else of the copy that was kept. */
async function bootstrapAsker(context: Context, signal: AbortSignal): Promise<Asker> {
  const { clock, log } = context.parts;
  const path = context.options.bootstrapKubeconfig;
  const load = async (from: string): Promise<Asker> => {
    const credentials = await loadCredentials(from, { clock, log, signal });
    return { client: new ApiClient({ credentials, clock }), own: false };
  };
  const lost =
    `there is no valid certificate and no bootstrap kubeconfig${path ? ` (${path})` : ''}: ` +
    'make a token (kubeadm token create --print-join-command) and join again';
  try {
    if (path !== undefined) return await load(path);
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'NotFound')) throw error;
  }
  const kept = await keptBootstrap(keptOf(context));
  if (kept === undefined) throw new Failure('Unauthenticated', lost);
  return await load(kept);
}

/** Makes the kubeconfig name the current certificate. @returns whether it was another one */
async function pointKubeconfig({ options, files }: Context): Promise<boolean> {
  const { kubeconfig, bootstrapKubeconfig } = options;
  const read = async (path: string): Promise<Kubeconfig | undefined> =>
    await readKubeconfig(path).catch(() => undefined);
  const own = await read(kubeconfig);
  const certificate = own?.certificate;
  if (certificate && 'file' in certificate && certificate.file === files.currentPath) return false;
  const like = own ?? (await readKubeconfig(bootstrapKubeconfig ?? kubeconfig));
  writeKubeconfig(kubeconfig, like, files.currentPath);
  return true;
}

/** All that a member does, until the signal is aborted. */
async function follow(
  context: Context,
  credentials: Credentials,
  reload: () => void,
  signal: AbortSignal,
): Promise<void> {
  const { options, parts, state, pokes, onEvent } = context;
  const { clock, random, log, store, machine, settings } = parts;
  const { registration } = options;
  const { nodeName } = registration;
  using client = new ApiClient({ credentials, clock });
  // The heartbeat shares its connection with nobody.
  using heart = new ApiClient({ credentials, clock });
  const base = { clock, random, nodeName, client };
  const check = createClusterCheck({ ...base, log, credentials, store, signal });
  let uid = storedCluster(store)?.nodeUid;
  state.connecting(credentials.server.origin);
  parts.onLaterThan(context.files.validity()?.notBeforeMs ?? 0);
  const heard = (what: 'lease' | 'node', fault: Fault | undefined) => {
    state.failed(what, fault);
    if (fault?.code === 'Unauthenticated') pokes.renewal.poke();
  };
  const isLeaseLost = createFlag();
  const wasSilent = createFlag();
  const recovery = createRecovery();
  const leasing = async () => {
    let wasWell = true;
    await keepLease(
      {
        ...base,
        client: heart,
        nodeUid: () => uid,
        onVersion: (version) => {
          // Watches stand at versions that it does not have: all is listed anew.
          if (check.leased(version)) reload();
        },
        onLost: () => {
          isLeaseLost.raise();
          pokes.node.poke();
        },
        onResult: (fault) => {
          heard('lease', fault);
          parts.onLease(fault === undefined);
          if (fault === undefined && !wasWell) {
            wasSilent.raise();
            recovery.tell();
            pokes.node.poke();
          }
          wasWell = fault === undefined;
        },
      },
      pokes.lease,
      signal,
    );
  };
  let leased: Promise<void> | undefined;
  if (uid !== undefined) leased = leasing();
  const node = keepNode(
    {
      ...{ client, clock, random, log, registration, machine, settings, onEvent },
      facts: parts.facts,
      knownUid: () => uid,
      mayBeGone: isLeaseLost.take,
      wasSilent: wasSilent.take,
      onRegistered: (registered) => {
        uid = registered;
        state.registered(registered);
        leased ??= leasing();
        // Asked anew: what was seen a moment ago may be from before there was our Node.
        void check.confirm().then(
          () => state.failed('identity', undefined),
          (error: unknown) => state.failed('identity', faultOf(error)),
        );
      },
      onResult: (fault) => heard('node', fault),
    },
    pokes.node,
    signal,
  );
  const session = parts.onSession?.({ client, credentials, recovery, ...check }, signal);
  await Promise.all([node, session, ...renewals(context, client, reload, signal)]);
  await leased;
}

/** Raised by one loop, and lowered by the other when it asks. */
function createFlag(): { raise(): void; take(): boolean } {
  let isRaised = false;
  return {
    raise: () => {
      isRaised = true;
    },
    take: () => {
      const was = isRaised;
      isRaised = false;
      return was;
    },
  };
}

function renewals(
  context: Context,
  client: ApiClient,
  reload: () => void,
  signal: AbortSignal,
): readonly Promise<void>[] {
  const { options, parts, pokes, state } = context;
  const own: Asker = { client, own: true };
  const running: Promise<void>[] = [];
  // Without a file of ours it is somebody else who renews what the kubeconfig names.
  if (options.rotate && context.files.validity() !== undefined) {
    const renewal = {
      ...clientRenewal(context),
      askers: async () => {
        const other = await bootstrapAsker(context, signal).catch(() => undefined);
        return other === undefined ? [own] : [own, other];
      },
      onIssued: async ({ notBeforeMs }: Validity) => {
        parts.onLaterThan(notBeforeMs);
        if (await pointKubeconfig(context)) reload();
        pokes.lease.poke();
        pokes.node.poke();
      },
    };
    running.push(keepCertificate(renewal, pokes.renewal, signal));
  }
  if (options.servingCertificate) {
    const { clock, random, log } = parts;
    const names = async () => [
      options.registration.nodeName,
      ...(await parts.facts(signal)).addresses,
    ];
    running.push(
      names().then(async (all) => {
        const serving = {
          ...{ clock, random, log, purpose: SERVING },
          files: certificateFiles(options.certDirectory, 'kubelet-server'),
          subject: () => subjectOf(options.registration.nodeName, all),
          expirationSeconds: options.expirationSeconds,
          askers: () => Promise.resolve([own]),
          onIssued: () => undefined,
          onProblem: (problem: Fault | undefined) => state.failed('servingCertificate', problem),
        };
        await keepCertificate(serving, createPoke(clock), signal);
      }),
    );
  }
  return running;
}
