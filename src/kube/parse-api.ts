/** Reads a pod that an API server has sent: checked already, so only what a node can't do is refused. */
import { ManifestSyntaxError, mapOf, nodeOf, formatProblem } from './manifest-node.ts';
import { createReport } from './parse-fields.ts';
import { readPod } from './parse-pod.ts';
import type { ObjectMeta, Pod } from './pod.ts';
import { validatePod } from './validate.ts';

/** What of a pod's metadata only an API server gives. */
export type ApiMeta = {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly creationTimestamp?: string | undefined;
  readonly generation?: number | undefined;
};

export type ApiPodResult =
  | { readonly ok: true; readonly pod: Pod }
  /** One line for each thing that limpet does not carry out, by name. */
  | { readonly ok: false; readonly pod: Pod; readonly problems: readonly string[] };

/**
 * The pod that an object of the API asks for. With `ok: false` it is one without containers, which
 * stands for the object until that is gone. Never throws.
 */
export function readApiPod(object: unknown, meta: ApiMeta): ApiPodResult {
  try {
    const node = nodeOf(object);
    const report = createReport(node, undefined, { isChecked: true });
    if (mapOf(node) === undefined) report.add([], 'is no Kubernetes object');
    const read = readPod(report, { node, path: [] });
    if (report.problems.length === 0) validatePod(report, read, []);
    if (report.problems.length === 0) {
      return { ok: true, pod: { ...read, metadata: { ...read.metadata, ...own(meta) } } };
    }
    const problems = report.problems.map((problem) => formatProblem(undefined, problem));
    return { ok: false, pod: stub(meta), problems };
  } catch (error) {
    if (!(error instanceof ManifestSyntaxError)) throw error;
    return { ok: false, pod: stub(meta), problems: [error.message] };
  }
}

function own({ uid, creationTimestamp, generation }: ApiMeta): Partial<ObjectMeta> {
  return {
    uid,
    ...(creationTimestamp !== undefined && { creationTimestamp }),
    ...(generation !== undefined && { generation }),
  };
}

function stub(meta: ApiMeta): Pod {
  const { name, namespace, uid } = meta;
  return { metadata: { name, namespace, uid, ...own(meta) }, spec: NOTHING };
}

/** What is wanted of a pod that can't be carried out. */
const NOTHING: Pod['spec'] = (() => {
  const node = nodeOf({ spec: { restartPolicy: 'Never' } });
  return readPod(createReport(node), { node, path: [] }).spec;
})();
