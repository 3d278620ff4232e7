/**
 * A type of the Kubernetes client as JSON has it: times are text, and a name that JavaScript keeps
 * for itself has no underscore before it.
 */
export type Wire<T> = T extends Date
  ? string
  : T extends readonly (infer I)[]
    ? readonly Wire<I>[]
    : T extends object
      ? { readonly [K in keyof T as K extends `_${infer R}` ? R : K]: Wire<T[K]> }
      : T;
