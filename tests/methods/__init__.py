"""The methods, each as a whole: a constructed task with a known answer, and every preset."""
