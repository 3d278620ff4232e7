/** What this limpet is. `scripts/build` writes the commit and SQLite's version into the bundle. */

declare const LIMPET_COMMIT: string | undefined;
declare const LIMPET_SQLITE: string | undefined;
declare const LIMPET_COMMIT_SECONDS: number | undefined;

/** 2026-11-21 */
const FIRST_COMMIT_SECONDS = 1_795_219_200;

/** The same as in package.json; a test holds it. */
export const VERSION = '0.1.0';

/** The Kubernetes version whose kubelet limpet stands in for. */
export const KUBERNETES_VERSION = 'v1.36.3';

/** The commit that the binary was built from; `source` when it runs from its source files. */
export const COMMIT = typeof LIMPET_COMMIT === 'string' ? LIMPET_COMMIT : 'source';

/** The version of SQLite inside the binary; undefined when it runs from its source files. */
export const SQLITE_VERSION = typeof LIMPET_SQLITE === 'string' ? LIMPET_SQLITE : undefined;

/** When the commit was made, in milliseconds since 1970: a clock that shows less is wrong. */
export const BUILT_WALL_MS =
  1000 * (typeof LIMPET_COMMIT_SECONDS === 'number' ? LIMPET_COMMIT_SECONDS : FIRST_COMMIT_SECONDS);
