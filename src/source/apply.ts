/**
 * What `limpet apply` does with the pods of a manifest, given those that the node has: pure, all
 * or nothing. Carrying it out is storing `pod` and, where there is a `replaces`, its deletion.
 */
import type { Pod } from '../kube/pod.ts';
import { MANIFEST_ANNOTATION, specHash } from '../kube/static-uid.ts';

export type StoredPod = {
  readonly pod: Pod;
  readonly source: 'file' | 'local' | 'api';
  readonly deleting: boolean;
};

export type ApplyItem = {
  readonly action: 'created' | 'unchanged' | 'replaced';
  /** As it is to be stored; of `unchanged` what is stored already. */
  readonly pod: Pod;
  /** The uid of the pod that ends before this one starts. */
  readonly replaces?: string;
};

export type ApplyDecision =
  | { readonly ok: true; readonly items: readonly ApplyItem[] }
  | { readonly ok: false; readonly problems: readonly string[] };

export type ApplyContext = {
  readonly nodeName: string;
  uuid(): string;
  /** RFC 3339; becomes the creationTimestamp of what is new. */
  readonly createdAt: string;
};

/** Decides on the pods of one manifest. A pod that did not change keeps its uid and keeps running. */
export function decideApply(
  pods: readonly Pod[],
  stored: readonly StoredPod[],
  context: ApplyContext,
): ApplyDecision {
  const problems: string[] = [];
  const items: ApplyItem[] = [];
  const seen = new Set<string>();
  for (const parsed of pods) {
    const name = fullName(parsed);
    const problem = findProblem(parsed, stored, context.nodeName);
    if (seen.has(name)) problems.push(`the pod ${name} is in the manifest twice; keep one of them`);
    else if (problem !== undefined) problems.push(problem);
    else items.push(decide(parsed, stored, context));
    seen.add(name);
  }
  return problems.length === 0 ? { ok: true, items } : { ok: false, problems };
}

function decide(
  parsed: Pod,
  stored: readonly StoredPod[],
  { nodeName, uuid, createdAt }: ApplyContext,
): ApplyItem {
  const bound: Pod = { ...parsed, spec: { ...parsed.spec, nodeName } };
  const before = stored.find(({ pod, deleting }) => !deleting && fullName(pod) === fullName(bound));
  if (before !== undefined && specHash(before.pod) === specHash(bound)) {
    return { action: 'unchanged', pod: before.pod };
  }
  const metadata = { ...bound.metadata, uid: uuid(), creationTimestamp: createdAt };
  const pod: Pod = { ...bound, metadata };
  if (before === undefined) return { action: 'created', pod };
  return { action: 'replaced', pod, replaces: before.pod.metadata.uid };
}

function findProblem(
  parsed: Pod,
  stored: readonly StoredPod[],
  nodeName: string,
): string | undefined {
  const name = fullName(parsed);
  const wanted = parsed.spec.nodeName;
  if (wanted !== undefined && wanted !== nodeName) {
    const value = JSON.stringify(wanted);
    return `the pod ${name}: spec.nodeName: ${value}: this node is "${nodeName}"; remove the field`;
  }
  const owner = stored.find(({ pod, source }) => source !== 'local' && fullName(pod) === name);
  if (owner === undefined) return undefined;
  if (owner.source === 'api') return `the pod ${name} belongs to the API server; change it there`;
  const file = owner.pod.metadata.annotations?.[MANIFEST_ANNOTATION] ?? 'a manifest file';
  return `the pod ${name} belongs to ${file}; change that file, or use another name`;
}

function fullName({ metadata }: Pod): string {
  return `${metadata.namespace}/${metadata.name}`;
}
