"""The servers of the comparison, each as small as its library allows."""
