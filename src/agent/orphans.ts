/**
 * Pods that the runtime has and nobody wants. With a store that is whole they are left over from a
 * deletion that was cut short, and are ended by the same core as any other pod. After the store was
 * lost they may be all that is left of what should run: then they are let be, and said so.
 */
import type { Clock } from '../base/clock.ts';
import type { ContainerSummary } from '../kube/cri.ts';
import type { Pod } from '../kube/pod.ts';
import type { Want } from '../pod/model.ts';
import { POD_NAMESPACE_LABEL, POD_NAME_LABEL, POD_UID_LABEL } from '../pod/names.ts';
import { PRE_STOP_ANNOTATION, readPreStop } from '../pod/pre-stop-annotation.ts';
import type { Everything } from './looks.ts';

const ORPHAN_GRACE_SECONDS = 30;

/** What to want of each pod that is in the runtime but not among `known`: its end. */
export function orphansOf(
  everything: Everything,
  known: (uid: string) => boolean,
  clock: Clock,
): readonly Want[] {
  const wants = new Map<string, Want>();
  const want = (metadata: Pod['metadata']) => {
    const { uid } = metadata;
    if (known(uid) || wants.has(uid)) return;
    const its = everything.containers.filter((c) => c.labels[POD_UID_LABEL] === uid);
    wants.set(uid, {
      pod: skeleton(metadata, its),
      source: 'local',
      order: Number.MAX_SAFE_INTEGER,
      deletion: { graceSeconds: ORPHAN_GRACE_SECONDS, at: clock.now() },
    });
  };
  for (const { metadata } of everything.sandboxes) want(metadata);
  // A power cut may have taken the record of a sandbox and left those of its containers.
  for (const { labels } of everything.containers) {
    const uid = labels[POD_UID_LABEL];
    const name = labels[POD_NAME_LABEL];
    const namespace = labels[POD_NAMESPACE_LABEL];
    if (uid !== undefined && name !== undefined && namespace !== undefined) {
      want({ uid, name, namespace });
    }
  }
  return [...wants.values()];
}

function skeleton(metadata: Pod['metadata'], its: readonly ContainerSummary[]): Pod {
  const names = new Set(its.map(({ name }) => name));
  const preStopOf = (name: string) => {
    const newest = its.filter((c) => c.name === name).sort((a, b) => b.attempt - a.attempt)[0];
    const preStop = readPreStop(newest?.annotations[PRE_STOP_ANNOTATION]);
    return preStop === undefined ? {} : { lifecycle: { preStop } };
  };
  return {
    metadata,
    spec: {
      containers: [...names].map((name) => ({
        name,
        image: '',
        imagePullPolicy: 'Never',
        env: [],
        ports: [],
        resources: { requests: {}, limits: {} },
        volumeMounts: [],
        terminationMessagePath: '',
        terminationMessagePolicy: 'File',
        securityContext: {},
        stdin: false,
        stdinOnce: false,
        tty: false,
        ...preStopOf(name),
      })),
      initContainers: [],
      volumes: [],
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: ORPHAN_GRACE_SECONDS,
      dnsPolicy: 'Default',
      hostNetwork: false,
      hostPID: false,
      hostIPC: false,
      shareProcessNamespace: false,
      hostAliases: [],
      securityContext: {},
    },
  };
}
