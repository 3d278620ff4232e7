/** Loads the YAML library for the manifests that need it; JSON costs nothing of it. */
import { ManifestSyntaxError, type Problem } from '../kube/manifest-node.ts';
import {
  decodeManifest,
  needsYaml,
  parseManifest,
  syntaxProblem,
  type ParseResult,
} from '../kube/parse.ts';
import type { Source } from '../kube/pod.ts';

/** Reads a manifest from bytes (a file) or text (a request). Never rejects. */
export async function readManifest(
  manifest: Uint8Array | string,
  source: Source,
): Promise<ParseResult> {
  try {
    const text = typeof manifest === 'string' ? manifest : decodeManifest(manifest);
    const yaml = needsYaml(text) ? await import('yaml') : undefined;
    return parseManifest(text, yaml, source);
  } catch (error) {
    const problem: Problem =
      error instanceof ManifestSyntaxError
        ? syntaxProblem(error)
        : { path: '', message: `can't be read: ${error instanceof Error ? error.message : ''}` };
    return { pods: [], problems: [problem] };
  }
}
